// Go's net/http for peers.c: PORT CERT KEY. POST /stream/N/MS answers N lines, one every MS; POST /stats says how many
// streams their client ended. SIGTERM ends it in good order.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var cancelled atomic.Int64

func answer(w http.ResponseWriter, r *http.Request) {
	var n, ms int
	io.Copy(io.Discard, r.Body)
	if strings.HasPrefix(r.URL.Path, "/stats") {
		fmt.Fprint(w, cancelled.Load())
		return
	}
	fmt.Sscanf(r.URL.Path, "/stream/%d/%d", &n, &ms)
	w.Header().Set("content-type", "text/event-stream")
	w.WriteHeader(200)
	for i := 0; i < n; i++ {
		select {
		case <-r.Context().Done():
			cancelled.Add(1)
			return
		case <-time.After(time.Duration(ms) * time.Millisecond):
		}
		fmt.Fprintf(w, "data: %06d\n\n", i)
		w.(http.Flusher).Flush()
	}
}

func main() {
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.HandlerFunc(answer)}
	over := make(chan struct{})
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		server.Shutdown(context.Background())
		close(over)
	}()
	if err := server.ListenAndServeTLS(os.Args[2], os.Args[3]); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-over
}
