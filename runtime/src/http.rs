//! What `--listen` serves: `/status` (JSON), `/metrics` (Prometheus), `/health`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use connector_api::Shutdown;
use serde_json::json;

use crate::{
    metrics,
    status::{self, PipelineStatus},
};

type Pipelines = Arc<Vec<Arc<PipelineStatus>>>;

/// Binds the address, so that a port that is taken stops the start.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    use anyhow::Context as _;
    tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another --listen address"))
}

/// Serves until shutdown.
pub(crate) async fn serve(listener: tokio::net::TcpListener, pipelines: Vec<Arc<PipelineStatus>>, mut shutdown: Shutdown) {
    let routes = Router::new()
        .route("/status", get(status_page))
        .route("/metrics", get(metrics_page))
        .route("/health", get(health_page))
        .with_state(Arc::new(pipelines));
    let ended = axum::serve(listener, routes).with_graceful_shutdown(async move { shutdown.requested().await }).await;
    if let Err(error) = ended {
        tracing::error!(%error, "the HTTP server ended");
    }
}

async fn status_page(State(pipelines): State<Pipelines>) -> Json<serde_json::Value> {
    let reports: Vec<_> = pipelines.iter().map(|pipeline| pipeline.report()).collect();
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "pipelines": reports }))
}

async fn metrics_page(State(pipelines): State<Pipelines>) -> Response {
    match metrics::render(&pipelines) {
        Ok(page) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// 200 while everything moves, 503 when a part is stopped or stalled.
async fn health_page(State(pipelines): State<Pipelines>) -> Response {
    let bad = |state| matches!(state, status::State::Stopped | status::State::Stalled);
    let reports: Vec<_> = pipelines.iter().map(|pipeline| pipeline.report()).collect();
    let sick: Vec<_> = reports
        .iter()
        .filter(|report| bad(report.state) || report.sinks.iter().any(|sink| bad(sink.state)))
        .map(|report| report.name.clone())
        .collect();
    let code = if sick.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": if sick.is_empty() { "healthy" } else { "unhealthy" }, "pipelines": sick }))).into_response()
}
