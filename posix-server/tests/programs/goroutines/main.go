// Uses Go's run-time the way its users do: goroutines and channels, garbage collection under load, timers, a child process,
// Unix sockets, signals, pre-emption of a loop that never calls. Prints "goroutines: ok" at the end.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func check(condition bool, what string) {
	if !condition {
		fmt.Println("failed:", what)
		os.Exit(1)
	}
}

func channels() {
	values := make(chan int, 4)
	var group sync.WaitGroup
	for task := 0; task < 64; task++ {
		group.Add(1)
		go func(task int) {
			defer group.Done()
			for step := 0; step < 100; step++ {
				values <- task*100 + step
			}
		}(task)
	}
	go func() { group.Wait(); close(values) }()
	sum := 0
	for value := range values {
		sum += value
	}
	check(sum == 6400*6399/2, "values were lost")
}

type node struct {
	next    *node
	payload [64]byte
}

func garbage() {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for round := 0; round < 20; round++ {
		var list *node
		for index := 0; index < 20000; index++ {
			list = &node{next: list}
		}
		runtime.KeepAlive(list)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	check(after.NumGC > before.NumGC, "no collection")
	check(after.HeapAlloc < 32<<20, "nothing was collected")
}

func timers() {
	start := time.Now()
	select {
	case <-time.After(50 * time.Millisecond):
	case <-make(chan int):
	}
	check(time.Since(start) >= 50*time.Millisecond, "the timer was early")
	ticker := time.NewTicker(5 * time.Millisecond)
	for tick := 0; tick < 5; tick++ {
		<-ticker.C
	}
	ticker.Stop()
}

func child() {
	command := exec.Command("/bin/cat")
	command.Stdin = strings.NewReader(strings.Repeat("line\n", 20000))
	output, err := command.Output()
	check(err == nil && len(output) == 100000, "the child's output")
	err = exec.Command("/bin/sh", "-c", "exit 3").Run()
	status, is := err.(*exec.ExitError)
	check(is && status.ExitCode() == 3, "the child's status")
}

func sockets() {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("go-%d.socket", os.Getpid()))
	listener, err := net.Listen("unix", path)
	check(err == nil, "listen")
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(connection, connection); connection.Close() }()
		}
	}()
	var group sync.WaitGroup
	for client := 0; client < 8; client++ {
		group.Add(1)
		go func() {
			defer group.Done()
			connection, err := net.Dial("unix", path)
			check(err == nil, "dial")
			connection.Write([]byte("echo"))
			connection.(*net.UnixConn).CloseWrite()
			answer, _ := io.ReadAll(connection)
			check(string(answer) == "echo", "the echo")
		}()
	}
	group.Wait()
}

func signals() {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	select {
	case <-caught:
	case <-time.After(10 * time.Second):
		check(false, "the signal did not come")
	}
}

func preemption() {
	runtime.GOMAXPROCS(1)
	stop := false
	go func() {
		for !stop {
		}
	}()
	time.Sleep(50 * time.Millisecond)
	stop = true
}

func main() {
	channels()
	garbage()
	timers()
	child()
	sockets()
	signals()
	preemption()
	fmt.Println("goroutines: ok")
}
