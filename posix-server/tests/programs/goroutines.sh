# A program of Go's run-time; see goroutines/main.go.
[ "$(/suite/programs/bin/goroutines)" = "goroutines: ok" ]
