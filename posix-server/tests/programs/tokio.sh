# A program of the Rust run-time tokio; see tokio/src/main.rs.
[ "$(/suite/programs/bin/tokio)" = "tokio: ok" ]
