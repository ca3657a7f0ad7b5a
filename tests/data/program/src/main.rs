//! Serves a folder; says how it was asked.

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use clap::Parser;
use serde::Deserialize;
use tower_http::services::ServeDir;
use tower_http::trace::TraceLayer;

#[derive(Parser)]
struct Options {
    folder: String,
}

#[derive(Deserialize)]
struct Question {
    word: String,
}

async fn answer(Query(question): Query<Question>) -> String {
    let is_word = regex::Regex::new(r"^\w+$").is_ok_and(|shape| shape.is_match(&question.word));
    // SAFETY: the library gives a text that lives as long as the program.
    let zlib = unsafe { std::ffi::CStr::from_ptr(libz_sys::zlibVersion()) };
    format!("{is_word} {}", zlib.to_string_lossy())
}

#[tokio::main]
async fn main() {
    let files = ServeDir::new(Options::parse().folder);
    let routes = Router::new().route("/answer", get(answer)).fallback_service(files);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, routes.layer(TraceLayer::new_for_http())).await.unwrap();
}
