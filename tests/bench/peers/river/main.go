// River end to end, for the queue benchmark:
//
//	river DATABASE_URL COUNT BATCH SLOTS
//
// Inserts COUNT jobs, BATCH in a statement (1: one by one, from 64 goroutines), and works them off meanwhile, SLOTS at
// once, doing nothing. Prints "COUNT ms cpu_ms": from the first insert until all rows are completed; the processor time
// of this process meanwhile. Tuned: it fetches again after 1 ms (100 ms by default).
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type jobArgs struct {
	Lane    string `json:"lane"`
	Model   string `json:"model"`
	Content string `json:"content"`
}

func (jobArgs) Kind() string { return "bench" }

type worker struct {
	river.WorkerDefaults[jobArgs]
	done *atomic.Int64
}

func (w *worker) Work(context.Context, *river.Job[jobArgs]) error {
	w.done.Add(1)
	return nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must(err)
	return n
}

func cpuMs() int64 {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return (u.Utime.Nano() + u.Stime.Nano()) / 1e6
}

func insert(ctx context.Context, client *river.Client[pgx.Tx], count, batch int) {
	var next atomic.Int64
	var all sync.WaitGroup
	lines := 64
	if batch > 1 {
		lines = 4
	}
	for range lines {
		all.Go(func() {
			for {
				from := int(next.Add(int64(batch))) - batch
				if from >= count {
					return
				}
				many := make([]river.InsertManyParams, 0, batch)
				for i := from; i < min(from+batch, count); i++ {
					args := jobArgs{"background", "sleep-0ms", fmt.Sprintf("mark-%d;", i)}
					if batch == 1 {
						_, err := client.Insert(ctx, args, nil)
						must(err)
						continue
					}
					many = append(many, river.InsertManyParams{Args: args})
				}
				if batch > 1 {
					_, err := client.InsertManyFast(ctx, many)
					must(err)
				}
			}
		})
	}
	all.Wait()
}

func main() {
	ctx := context.Background()
	count, batch, slots := number(os.Args[2]), number(os.Args[3]), number(os.Args[4])
	config, err := pgxpool.ParseConfig(os.Args[1])
	must(err)
	config.MaxConns = 40
	config.ConnConfig.RuntimeParams["search_path"] = "river"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(err)
	_, err = pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS river")
	must(err)
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet})
	must(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	must(err)
	_, err = pool.Exec(ctx, "TRUNCATE river_job")
	must(err)

	var done atomic.Int64
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{done: &done})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger:            quiet,
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}},
		Workers:           workers,
		FetchCooldown:     time.Millisecond,
		FetchPollInterval: 10 * time.Millisecond,
	})
	must(err)
	must(client.Start(ctx))
	cpu, began := cpuMs(), time.Now()
	insert(ctx, client, count, batch)
	for rows := 0; rows < count; time.Sleep(5 * time.Millisecond) {
		if done.Load() < int64(count) {
			continue
		}
		must(pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE state = 'completed'").Scan(&rows))
	}
	fmt.Printf("%d %.1f %d\n", count, float64(time.Since(began).Microseconds())/1e3, cpuMs()-cpu)
	must(client.Stop(ctx))
}
