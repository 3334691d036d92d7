// The centrifuge library as a fan-out server: subscribers connect to /sub/CHANNEL (centrifuge's own protocol, subscribed
// by the server), POST /pub/CHANNEL publishes. Prints its port.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/centrifugal/centrifuge"
)

type channelKey struct{}

func main() {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		channel, _ := ctx.Value(channelKey{}).(string)
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	sockets := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})
	http.HandleFunc("/sub/", func(w http.ResponseWriter, r *http.Request) {
		channel := strings.TrimPrefix(r.URL.Path, "/sub/")
		sockets.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), channelKey{}, channel)))
	})
	http.HandleFunc("/pub/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			data, _ := json.Marshal(string(body))
			_, err = node.Publish(strings.TrimPrefix(r.URL.Path, "/pub/"), data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { <-stop; os.Exit(0) }()
	log.Fatal(http.Serve(listener, nil))
}
