//! Uses tokio the way its users do: timers, pipes of a child, Unix sockets, 64 tasks that pass messages, blocking work on a
//! pool of threads, signals. Prints `tokio: ok` at the end.

use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TASKS: u64 = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> Result<(), Failure> {
    let (timers, pipes, sockets, tasks, pool, signals) =
        tokio::join!(timers(), child_pipes(), unix_sockets(), many_tasks(), thread_pool(), signals());
    timers?;
    pipes?;
    sockets?;
    tasks?;
    pool?;
    signals?;
    println!("tokio: ok");
    Ok(())
}

fn check(condition: bool, what: &str) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(what.into()) }
}

async fn timers() -> Result<(), Failure> {
    let start = Instant::now();
    let mut sleeps = JoinSet::new();
    for number in 0..10 {
        sleeps.spawn(sleep(Duration::from_millis(10 * number)));
    }
    while sleeps.join_next().await.is_some() {}
    check(start.elapsed() >= Duration::from_millis(90), "the sleeps were too short")?;
    let never = timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
    check(never.is_err(), "the timeout did not fire")
}

async fn child_pipes() -> Result<(), Failure> {
    let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut input, mut output) = (child.stdin.take().ok_or("no pipe")?, child.stdout.take().ok_or("no pipe")?);
    let sent = vec![b'x'; 300_000];
    let expected = sent.clone();
    let writer = tokio::spawn(async move { input.write_all(&sent).await });
    let mut received = Vec::new();
    output.read_to_end(&mut received).await?;
    writer.await??;
    check(received == expected, "the pipe changed the bytes")?;
    check(child.wait().await?.success(), "cat failed")
}

async fn unix_sockets() -> Result<(), Failure> {
    let path = format!("tokio-{}.socket", std::process::id());
    let listener = UnixListener::bind(&path)?;
    let server = tokio::spawn(async move {
        for _ in 0..8 {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut text = String::new();
                stream.read_to_string(&mut text).await?;
                stream.write_all(text.to_uppercase().as_bytes()).await
            });
        }
        Ok::<(), std::io::Error>(())
    });
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let path = path.clone();
        clients.spawn(async move {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(format!("client {number}").as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            check(answer == format!("CLIENT {number}"), "a wrong answer")
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    server.await??;
    Ok(std::fs::remove_file(path)?)
}

async fn many_tasks() -> Result<(), Failure> {
    let (sender, mut receiver) = mpsc::channel(8);
    for number in 0..TASKS {
        let sender = sender.clone();
        tokio::spawn(async move {
            for step in 0..100 {
                tokio::task::yield_now().await;
                if sender.send(number * 100 + step).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut count, mut sum) = (0, 0);
    while let Some(value) = receiver.recv().await {
        count += 1;
        sum += value;
    }
    check(count == TASKS * 100 && sum == (TASKS * 100) * (TASKS * 100 - 1) / 2, "messages were lost")
}

async fn thread_pool() -> Result<(), Failure> {
    let mut work = JoinSet::new();
    for number in 0..16_u64 {
        work.spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(20));
            (0..10_000).fold(number, |hash, value| hash.rotate_left(5) ^ value)
        });
    }
    let mut results = Vec::new();
    while let Some(result) = work.join_next().await {
        results.push(result?);
    }
    check(results.len() == 16, "results are missing")?;
    tokio::fs::write("file", b"through the pool").await?;
    check(tokio::fs::read("file").await? == b"through the pool", "the file has something else")
}

async fn signals() -> Result<(), Failure> {
    let mut stream = signal(SignalKind::user_defined1())?;
    let pid = std::process::id().to_string();
    let status = Command::new("/bin/kill").args(["-USR1", &pid]).status().await?;
    check(status.success(), "kill failed")?;
    let received = timeout(Duration::from_secs(10), stream.recv()).await?;
    check(received.is_some(), "the signal did not come")
}
