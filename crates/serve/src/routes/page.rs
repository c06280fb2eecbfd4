//! The page at `/`, embedded into the program.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, rejection::PathRejection},
    http::header,
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{App, error::ApiError, security::restrict_page};

const INDEX: &str = include_str!("../page/index.html");

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../page/", $name)))),*] };
}

/// The style sheet and the JavaScript modules.
const FILES: [(&str, &str); 24] = files![
    "align.js" "announcer.js" "api.js" "app.js" "chart.js" "chat.js" "compare.js" "complete.js" "dom.js" "errors.js"
    "events.js" "generation.js" "job.js" "key.js" "models.js" "probability.js" "runs.js" "scale.js" "settings.js"
    "store.js" "style.css" "tabs.js" "token-panel.js" "tokens.js"
];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(async || text("text/html", INDEX)))
        .route("/page/{file}", get(file))
        .layer(from_fn(restrict_page))
}

async fn file(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(name) = name?;
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (name, content) =
        found.ok_or_else(|| ApiError::not_found(format!("the page has no file `{name}`")))?;
    let media_type = if name.ends_with(".css") { "text/css" } else { "text/javascript" };
    Ok(text(media_type, content))
}

/// A browser asks for a file again each time, so that a newer server shows its own page.
fn text(media_type: &str, content: &'static str) -> Response {
    let media_type = format!("{media_type}; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache".to_owned())], content)
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/page")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_part = |name: &String| name.ends_with(".js") || name.ends_with(".css");
        let served = FILES.iter().map(|(name, _)| (*name).to_owned());
        assert_eq!(names.filter(is_part).collect::<BTreeSet<_>>(), served.collect());
    }
}
