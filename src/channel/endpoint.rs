//! Whether there is a connection, and how there comes to be one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tower_service::Service;

use super::Error;
use super::config::Config;
use super::connection::{Ready, Shared, handshake};
use super::slots::Slot;
use super::stats::Counts;
use super::target::{Place, Target};
use crate::deadline::Phase;
use crate::propagation::Rtt;
use crate::propagation::account::wait_in;
use crate::time::{Instant, timeout_at};

/// What the services of a channel share.
pub(super) struct Endpoint {
    pub(super) target: Target,
    pub(super) config: Config,
    pub(super) counts: Arc<Counts>,
    pub(super) rtt: Rtt,
    state: Mutex<State>,
}

enum State {
    Idle,
    Connecting(watch::Receiver<Option<Outcome>>),
    Connected(Ready),
}

type Outcome = Result<Ready, Error>;

/// Of an attempt: when this is dropped, nobody connects any more.
struct Over(Arc<Endpoint>);

impl Drop for Over {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Connecting(_)) {
            let connecting = std::mem::replace(&mut *state, State::Idle);
            drop(state);
            drop(connecting);
        }
    }
}

/// Until the connection has ended.
type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Endpoint {
    pub(super) fn new(target: Target, config: Config) -> Arc<Self> {
        Arc::new(Self {
            target,
            config,
            counts: Arc::default(),
            rtt: Rtt::default(),
            state: Mutex::new(State::Idle),
        })
    }

    /// A connection with a stream to be opened on it, if both are there.
    pub(super) fn try_lease(&self) -> Option<(Ready, Slot)> {
        let ready = match &*self.state.lock() {
            State::Connected(ready) => ready.clone(),
            _ => return None,
        };
        if !ready.is_open() {
            self.forget(&ready.shared);
            return None;
        }
        let slot = ready.shared.slots.try_take()?;
        Some((ready, slot))
    }

    /// The same, as soon as they are.
    pub(super) async fn lease(self: Arc<Self>) -> Result<(Ready, Slot), Error> {
        loop {
            let mut connecting = pin!(self.connection());
            let ready = poll_fn(|cx| {
                let polled = connecting.as_mut().poll(cx);
                if polled.is_pending() {
                    wait_in(Phase::Connect);
                }
                polled
            })
            .await?;
            // By then the peer may have said that it wants no more calls here.
            let slot = ready.shared.slots.take().await;
            match slot {
                Some(slot) if ready.is_open() => return Ok((ready, slot)),
                _ => self.forget(&ready.shared),
            }
        }
    }

    /// The connection that there is, or the next.
    pub(super) async fn connection(self: &Arc<Self>) -> Outcome {
        let mut outcome = {
            let mut state = self.state.lock();
            if let State::Connected(ready) = &*state {
                if ready.is_open() {
                    return Ok(ready.clone());
                }
                *state = State::Idle;
            }
            match &*state {
                State::Connecting(outcome) => outcome.clone(),
                _ => {
                    let runtime = Handle::try_current()
                        .map_err(|_| Error::request("there is no tokio runtime"))?;
                    let (tell, outcome) = watch::channel(None);
                    *state = State::Connecting(outcome.clone());
                    // It goes on if the call that wanted it gives up: the next one will, too.
                    runtime.spawn(self.clone().attempt(tell));
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The runtime has dropped it.
            _ => Err(Error::lost(self.target.name())),
        }
    }

    /// There is another to be made for the next call.
    fn forget(&self, shared: &Arc<Shared>) {
        let mut state = self.state.lock();
        let old = match &*state {
            State::Connected(it) if Arc::ptr_eq(&it.shared, shared) => {
                std::mem::replace(&mut *state, State::Idle)
            }
            _ => return,
        };
        drop(state);
        drop(old);
    }

    /// Makes a connection, tells, and drives it to its end.
    async fn attempt(self: Arc<Self>, tell: watch::Sender<Option<Outcome>>) {
        // Also if it is dropped with its runtime, or panics: whoever comes next makes another.
        let over = Over(self.clone());
        let until = Instant::now() + self.config.connect_timeout;
        let (ready, driving) = match self.connect(until).await {
            Ok(connected) => connected,
            Err(error) => {
                self.counts.failed();
                drop(over);
                tell.send_replace(Some(Err(error)));
                return;
            }
        };
        self.counts.connected();
        *self.state.lock() = State::Connected(ready.clone());
        let shared = Arc::downgrade(&ready.shared);
        tell.send_replace(Some(Ok(ready)));
        drop((tell, over));
        // Who drives a connection mustn't keep it: it ends when nobody can call on it any more.
        let endpoint = Arc::downgrade(&self);
        drop(self);
        driving.await;
        if let (Some(endpoint), Some(shared)) = (endpoint.upgrade(), shared.upgrade()) {
            endpoint.forget(&shared);
        }
    }

    async fn connect(&self, until: Instant) -> Result<(Ready, Driving), Error> {
        match &self.target.place {
            Place::Tcp(uri) => {
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                connector.enforce_http(false);
                let io = self.within(until, connector.call(uri.clone())).await?.into_inner();
                #[cfg(feature = "tls")]
                if let Some(config) = self.config.tls.clone()
                    && self.target.scheme == http::uri::Scheme::HTTPS
                {
                    let connecting = super::tls::connect(config, &self.target.authority, io);
                    let io = self.within(until, connecting).await?;
                    return self.speak(io, until).await;
                }
                self.speak(io, until).await
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let io = self.within(until, tokio::net::UnixStream::connect(path)).await?;
                self.speak(io, until).await
            }
        }
    }

    async fn within<T, E>(
        &self,
        until: Instant,
        connecting: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = self.target.name();
        match timeout_at(until, connecting).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error)) => Err(Error::connect(target, error)),
            Err(_) => Err(Error::timed_out(target, self.config.connect_timeout)),
        }
    }

    /// From the preface on.
    async fn speak<T>(&self, io: T, until: Instant) -> Result<(Ready, Driving), Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Shared::new(&self.config, self.counts.clone(), self.rtt.clone());
        let shaking = handshake(io, &self.config, shared.clone());
        let (send, mut driver) = self.within(until, shaking).await?;
        let hearing = async {
            driver.hear().await.map_err(|error| match error {
                Some(error) => Box::<dyn std::error::Error + Send + Sync>::from(error),
                None => "it was closed".into(),
            })
        };
        self.within(until, hearing).await?;
        Ok((Ready { send, shared }, Box::pin(driver.run())))
    }
}
