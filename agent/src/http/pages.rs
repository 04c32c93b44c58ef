//! What the HTTP server answers: three pages, each a line or two of text.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::{self, Metrics};

/// The content type of all pages but the metrics.
const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the agent can serve callers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason: a few words, shown to whoever asks.
    NotReady(String),
}

#[derive(Clone)]
struct Sources {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
}

pub(super) fn router(metrics: Metrics, readiness: watch::Receiver<Readiness>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(async || text(StatusCode::OK, "ok")))
        .route("/readyz", get(readyz))
        .fallback(async || text(StatusCode::NOT_FOUND, "try /metrics, /livez or /readyz"))
        .method_not_allowed_fallback(async || text(StatusCode::METHOD_NOT_ALLOWED, "only GET"))
        .with_state(Sources { metrics, readiness })
}

async fn metrics_page(State(sources): State<Sources>) -> Response {
    match sources.metrics.render() {
        Ok(page) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(error) => {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "no metrics");
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written: see the log",
            )
        }
    }
}

async fn readyz(State(sources): State<Sources>) -> Response {
    match &*sources.readiness.borrow() {
        Readiness::Ready => text(StatusCode::OK, "ok"),
        Readiness::NotReady(why) => {
            let why = why.replace(char::is_control, " ");
            text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("not ready: {why}"),
            )
        }
    }
}

fn text(status: StatusCode, line: &str) -> Response {
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")];
    (status, headers, format!("{line}\n")).into_response()
}
