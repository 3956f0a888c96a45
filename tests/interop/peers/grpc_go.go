// grpc-go, as a client and as a server. All messages are empty.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const prefix = "/interop.Interop/"

type line map[string]interface{}

var lock sync.Mutex

func say(it line) {
	text, _ := json.Marshal(it)
	lock.Lock()
	defer lock.Unlock()
	fmt.Println(string(text))
}

// Messages that are empty, whatever they are.
type empty struct{}

func (empty) Marshal(interface{}) ([]byte, error) { return nil, nil }
func (empty) Unmarshal([]byte, interface{}) error { return nil }
func (empty) Name() string                        { return "proto" }
func (empty) String() string                      { return "proto" }

func handle(_ interface{}, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	name := strings.TrimPrefix(method, prefix)
	begun := line{"event": "begun", "method": name, "remaining_ms": nil}
	if deadline, ok := stream.Context().Deadline(); ok {
		begun["remaining_ms"] = float64(time.Until(deadline)) / 1e6
	}
	say(begun)
	if name == "Upload" {
		for stream.RecvMsg(nil) == nil {
		}
	} else if err := stream.RecvMsg(nil); err != nil {
		return err
	}
	if name == "Stream" {
		stream.SendMsg(nil)
	}
	if name != "Echo" {
		<-stream.Context().Done()
		say(line{"event": "over", "method": name, "why": stream.Context().Err().Error()})
		// As it is, its library would make UNKNOWN of it.
		return status.FromContextError(stream.Context().Err()).Err()
	}
	return stream.SendMsg(nil)
}

func serve() (line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.CustomCodec(empty{}), grpc.UnknownServiceHandler(handle))
	go server.Serve(listener)
	return line{"port": listener.Addr().(*net.TCPAddr).Port}, nil
}

type command struct {
	ID        int      `json:"id"`
	Do        string   `json:"do"`
	To        string   `json:"to"`
	Method    string   `json:"method"`
	TimeoutMs *float64 `json:"timeout_ms"`
	CancelMs  *float64 `json:"cancel_ms"`
	Count     int      `json:"count"`
}

func ms(it float64) time.Duration {
	if it > 9e12 {
		return 1<<63 - 1
	}
	return time.Duration(it * 1e6)
}

func call(it command) (line, error) {
	conn, err := grpc.Dial(it.To, grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if it.TimeoutMs != nil {
		ctx, cancel = context.WithTimeout(ctx, ms(*it.TimeoutMs))
		defer cancel()
	}
	if it.CancelMs != nil {
		time.AfterFunc(ms(*it.CancelMs), cancel)
	}
	desc := grpc.StreamDesc{ServerStreams: it.Method != "Upload", ClientStreams: it.Method == "Upload"}
	messages := 0
	// Once, if it isn't told how often.
	for done := 0; err == nil && (done == 0 || done < it.Count); done++ {
		stream, failed := conn.NewStream(ctx, &desc, prefix+it.Method, grpc.ForceCodec(empty{}))
		if err = failed; err != nil {
			break
		}
		stream.SendMsg(nil)
		if it.Method != "Upload" {
			stream.CloseSend()
		}
		for err == nil {
			if err = stream.RecvMsg(nil); err == nil {
				messages++
			}
		}
		if err.Error() == "EOF" {
			err = nil
		}
	}
	it2 := status.Convert(err)
	return line{"code": int(it2.Code()), "message": it2.Message(), "messages": messages}, nil
}

func obey(it command) {
	var answer line
	var err error
	switch it.Do {
	case "serve":
		answer, err = serve()
	case "call":
		answer, err = call(it)
	case "version":
		answer = line{"version": fmt.Sprintf("grpc-go %s, %s", grpc.Version, runtime.Version())}
	}
	if err != nil {
		answer = line{"error": err.Error()}
	}
	answer["id"] = it.ID
	say(answer)
}

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var it command
		if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
			panic(err)
		}
		go obey(it)
	}
}
