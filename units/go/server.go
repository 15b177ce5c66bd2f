// Serves on the socket that supd lends, says when it does, and ends gracefully on SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// borrowed is descriptor 3, if it is meant for this process and was not inherited by mistake.
func borrowed() (net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return nil, errors.New("no socket: start me under supd")
	}
	file := os.NewFile(3, "supd")
	defer file.Close() // FileListener has a copy
	return net.FileListener(file)
}

// notify sends one datagram, as sd_notify(3) does.
func notify(message string) error {
	connection, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte(message))
	return err
}

func main() {
	listener, err := borrowed()
	if err != nil {
		log.Fatal(err)
	}
	release := os.Getenv("SUPD_RELEASE")
	handler := func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/slow" { // a swap lets it finish
			time.Sleep(100 * time.Millisecond)
		}
		answer.Header().Set("X-Served-By", fmt.Sprintf("%s/%d", release, os.Getpid()))
		fmt.Fprintf(answer, "hello from release %s\n", release)
	}

	ending, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go func() {
		<-ending.Done()
		listener.Close() // this process's copy: supd's socket goes on
	}()
	if err := notify("READY=1"); err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second}
	// Closed first, and only then shut down: Shutdown alone may return while Serve still holds a
	// connection that it has just accepted, and the end of main would reset it.
	if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
		log.Fatal(err)
	}
	notify("STOPPING=1")
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
