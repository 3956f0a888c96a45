//! The services of one side, each a process of its own: this program again, with a hidden command.

use super::event::{Event, What};
use super::link::Link;
use super::service::SERVICE;
use super::story::{Budget, Hop, Side};
use deadbeat::time::timeout_running;
use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// All are killed when it is dropped. Should that not come to pass, each ends when its standard input does.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) side: Side,
    pub(super) gateway: u16,
    pub(super) link: Link,
    events: UnboundedReceiver<(Hop, Event)>,
    _services: [Process; 3],
}

/// A `stock` alone, that works on so many calls at once.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) port: u16,
    /// Which nobody reads; while it is here, it is written.
    _events: UnboundedReceiver<(Hop, Event)>,
    _service: Process,
}

impl Stock {
    pub(super) async fn start(budget: Budget, slots: usize) -> Result<Self, Box<dyn Error>> {
        let (tell, mut events) = unbounded_channel();
        let slots = format!("--slots={slots}");
        let service = Process::start_with(Hop::Stock, Side::Deadbeat, budget, 0, &[slots], tell)?;
        let port = listening(&mut events, Hop::Stock).await?;
        Ok(Self { port, _events: events, _service: service })
    }
}

#[derive(Debug)]
struct Process(Child);

impl Fleet {
    pub(super) async fn start(side: Side, budget: Budget) -> Result<Self, Box<dyn Error>> {
        let (tell, mut events) = unbounded_channel();
        let stock = Process::start(Hop::Stock, side, budget, 0, tell.clone())?;
        let link = Link::to(listening(&mut events, Hop::Stock).await?).await?;
        let orders = Process::start(Hop::Orders, side, budget, link.port(), tell.clone())?;
        let port = listening(&mut events, Hop::Orders).await?;
        let gateway = Process::start(Hop::Gateway, side, budget, port, tell)?;
        let port = listening(&mut events, Hop::Gateway).await?;
        Ok(Self { side, gateway: port, link, events, _services: [gateway, orders, stock] })
    }

    /// The next thing that a service tells. Nothing is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Result<(Hop, Event), Box<dyn Error>> {
        self.events.recv().await.ok_or_else(|| "all services have ended".into())
    }
}

async fn listening(
    events: &mut UnboundedReceiver<(Hop, Event)>,
    hop: Hop,
) -> Result<u16, Box<dyn Error>> {
    let first = timeout_running(Duration::from_secs(20), events.recv()).await;
    match first.ok().flatten() {
        Some((from, Event { what: What::Listening { port }, .. })) if from == hop => Ok(port),
        _ => Err(format!("{hop} doesn't start").into()),
    }
}

impl Process {
    fn start(
        hop: Hop,
        side: Side,
        budget: Budget,
        next: u16,
        tell: UnboundedSender<(Hop, Event)>,
    ) -> Result<Self, Box<dyn Error>> {
        Self::start_with(hop, side, budget, next, &[], tell)
    }

    fn start_with(
        hop: Hop,
        side: Side,
        budget: Budget,
        next: u16,
        more: &[String],
        tell: UnboundedSender<(Hop, Event)>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .args([SERVICE, hop.name(), side.name()])
            .args([format!("--budget={}us", budget.0.as_micros()), format!("--next={next}")])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let event = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let Some(event) = event else { return };
                if tell.send((hop, event)).is_err() {
                    return;
                }
            }
        });
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
