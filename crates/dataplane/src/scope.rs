//! Which request the current thread works for.
//!
//! Owns the thread-local that puts the ids of a request on every trace line it
//! causes, whoever writes the line (us, hyper, rustls). It does what a tracing
//! span would do, without a registry: entering moves one pointer. Promises that
//! the scope before is restored, on panics too. Must never hold a lock or
//! allocate on entering.

use std::{
    cell::RefCell,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use domain::{
    context::RequestIds,
    ids::{ProjectId, TokenId},
};

thread_local! {
    static CURRENT: RefCell<Option<Arc<RequestScope>>> = const { RefCell::new(None) };
}

/// What the lines of one request say of it.
#[derive(Debug)]
pub struct RequestScope {
    ids: RequestIds,
    caller: OnceLock<(ProjectId, TokenId)>,
    /// 0: nothing beyond the base level; 1 (error) to 5 (trace).
    verbosity: AtomicU8,
}

impl RequestScope {
    pub fn new(ids: RequestIds) -> Arc<Self> {
        Arc::new(Self { ids, caller: OnceLock::new(), verbosity: AtomicU8::new(0) })
    }

    pub fn ids(&self) -> &RequestIds {
        &self.ids
    }

    /// Names the caller once it is known; `verbosity` comes from [`Verbosity`].
    /// A second call changes nothing but the verbosity.
    pub fn identify(&self, project: ProjectId, token: TokenId, verbosity: u8) {
        self.caller.get_or_init(|| (project, token));
        self.verbosity.store(verbosity, Ordering::Relaxed);
    }

    pub fn project_id(&self) -> Option<ProjectId> {
        self.caller.get().map(|(project, _)| *project)
    }

    pub fn token_id(&self) -> Option<TokenId> {
        self.caller.get().map(|(_, token)| *token)
    }

    pub fn verbosity(&self) -> u8 {
        self.verbosity.load(Ordering::Relaxed)
    }
}

/// How much is traced of the requests of a project or token (CONTRACT §7,
/// `/manage/log-level`).
pub trait Verbosity: Send + Sync + 'static {
    /// 0 when nothing is set for them, which must be the cheap answer.
    fn verbosity(&self, project: ProjectId, token: TokenId) -> u8;
}

/// The scope of the current thread, for handing on to another task.
pub fn current() -> Option<Arc<RequestScope>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Looks at the scope of the current thread without counting a reference.
pub fn with_current<R>(look: impl FnOnce(Option<&RequestScope>) -> R) -> R {
    let mut look = Some(look);
    let seen = CURRENT.try_with(|current| {
        let current = current.borrow();
        look.take().map(|look| look(current.as_deref()))
    });
    match (seen, look) {
        (Ok(Some(result)), _) => result,
        // The thread is going away: it works for nobody.
        (_, Some(look)) => look(None),
        (_, None) => unreachable!("the closure is either run or still here"),
    }
}

/// Makes `scope` the current one until the guard is dropped.
pub fn enter(scope: &Arc<RequestScope>) -> Entered {
    Entered { before: swap(Some(Arc::clone(scope))), thread_bound: PhantomData }
}

/// Restores the scope before when it is dropped.
#[must_use = "the scope ends when the guard is dropped"]
#[derive(Debug)]
pub struct Entered {
    before: Option<Arc<RequestScope>>,
    /// A guard belongs to the thread whose scope it restores.
    thread_bound: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        swap(self.before.take());
    }
}

fn swap(scope: Option<Arc<RequestScope>>) -> Option<Arc<RequestScope>> {
    CURRENT.try_with(|current| current.replace(scope)).ok().flatten()
}

pin_project_lite::pin_project! {
    /// A future that is polled within a scope.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        scope: Option<Arc<RequestScope>>,
        #[pin]
        future: F,
    }
}

impl<F> Scoped<F> {
    pub fn new(scope: Arc<RequestScope>, future: F) -> Self {
        Self { scope: Some(scope), future }
    }

    /// Carries on in the scope of whoever creates it: for spawned tasks.
    pub fn inherit(future: F) -> Self {
        Self { scope: current(), future }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _swapped = Swapped::begin(this.scope);
        this.future.poll(context)
    }
}

/// Exchanges the slot of a future with that of the thread, and back: no
/// reference count is touched.
struct Swapped<'a>(&'a mut Option<Arc<RequestScope>>);

impl<'a> Swapped<'a> {
    fn begin(slot: &'a mut Option<Arc<RequestScope>>) -> Self {
        *slot = swap(slot.take());
        Self(slot)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        *self.0 = swap(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use domain::{context::TraceContext, ids::RequestId, rng::Fixed};

    use super::*;

    fn scope(name: &str) -> Arc<RequestScope> {
        let request_id = RequestId::parse(name.as_bytes()).expect("a valid id");
        RequestScope::new(RequestIds {
            correlation_id: request_id.clone().into(),
            request_id,
            trace: TraceContext::from_traceparent(None, &Fixed(1)),
        })
    }

    fn name() -> Option<String> {
        with_current(|scope| scope.map(|scope| scope.ids().request_id.to_string()))
    }

    #[test]
    fn guards_nest_and_restore() {
        assert_eq!(name(), None);
        {
            let _outer = enter(&scope("outer"));
            {
                let _inner = enter(&scope("inner"));
                assert_eq!(name().as_deref(), Some("inner"));
            }
            assert_eq!(name().as_deref(), Some("outer"));
        }
        assert_eq!(name(), None);
    }

    #[test]
    fn a_future_has_its_scope_while_it_is_polled_even_if_it_panics() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut polls = 0;
        let inner = std::future::poll_fn(|_| {
            polls += 1;
            assert_eq!(name().as_deref(), Some("one"));
            if polls == 1 { Poll::Pending } else { Poll::Ready(name()) }
        });
        let mut future = std::pin::pin!(Scoped::new(scope("one"), inner));
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert_eq!(name(), None);
        assert_eq!(future.poll(&mut context), Poll::Ready(Some("one".to_owned())));

        let broken = std::future::poll_fn(|_| -> Poll<()> { panic!("on purpose") });
        let mut broken = Box::pin(Scoped::new(scope("two"), broken));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            broken.as_mut().poll(&mut context)
        }));
        assert!(caught.is_err());
        assert_eq!(name(), None);
    }

    #[test]
    fn a_caller_is_named_once() {
        let scope = scope("r");
        let project = |last: u8| -> ProjectId {
            format!("00000000-0000-7000-8000-0000000000{last:02}").parse().expect("a UUID")
        };
        let token: TokenId = "00000000-0000-7000-8000-000000000009".parse().expect("a UUID");
        scope.identify(project(1), token, 4);
        scope.identify(project(2), token, 5);
        assert_eq!(scope.project_id(), Some(project(1)));
        assert_eq!(scope.token_id(), Some(token));
        assert_eq!(scope.verbosity(), 5);
    }
}
