//! Renders a chart as SVG.

use plotters::prelude::*;

use crate::{Chart, Error, Result, font::Font, layout::Size, picture};

/// Renders a chart as an SVG document.
pub(crate) fn render(chart: &Chart, size: Size) -> Result<String> {
    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, size.units()).into_drawing_area();
        picture::draw(chart, size.em(), &Font::load(), &root).map_err(|error| Error::Draw(error.into()))?;
        root.present().map_err(|error| Error::Draw(error.into()))?;
    }
    Ok(with_root(&document, size))
}

/// Kindling recognises its own charts by this comment and leaves them out of training text.
const ORIGIN: &str = "<!-- Drawn by Kindling -->";

/// Replaces the root element: the drawing is in units rather than pixels, and line joins are round.
fn with_root(document: &str, size: Size) -> String {
    let (_, content) = document.split_once('>').expect("a document begins with its root element");
    let Size { width, height } = size;
    let (units_wide, units_high) = size.units();
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {units_wide} {units_high}" stroke-linejoin="round" stroke-linecap="round">{ORIGIN}{content}"#
    )
}
