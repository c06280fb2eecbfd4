//! Renders a chart as PNG: plotters draws on a tiny-skia pixmap, with texts as font outlines.
//!
//! plotters' own bitmap backend is not used because the miters of its wide lines look like spikes in the data.

use std::convert::Infallible;

use plotters::prelude::*;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind, FontTransform,
    text_anchor::{HPos, VPos},
};
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use crate::{
    Chart, Error, Result,
    font::Font,
    layout::{Size, UNITS},
    look::FONT_FACTOR,
    picture,
};

/// Renders a chart as a PNG file.
pub(crate) fn render(chart: &Chart, size: Size) -> Result<Vec<u8>> {
    let mut pixmap = Pixmap::new(size.width, size.height).expect("a size is at most 10,000 pixels");
    let font = Font::load();
    {
        let root = Raster { size, font: &font, pixmap: &mut pixmap }.into_drawing_area();
        picture::draw(chart, size.em(), &font, &root).map_err(|error| Error::Draw(error.into()))?;
    }
    encode(&pixmap)
}

/// Encodes a pixmap as PNG without the alpha channel, since the background is opaque.
fn encode(pixmap: &Pixmap) -> Result<Vec<u8>> {
    let pixels: Vec<u8> =
        pixmap.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    let mut file = vec![];
    let mut encoder = png::Encoder::new(&mut file, pixmap.width(), pixmap.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

/// A plotters backend that draws on a pixmap. Coordinates are in units.
struct Raster<'a> {
    size: Size,
    font: &'a Font,
    pixmap: &'a mut Pixmap,
}

const PIXELS_PER_UNIT: f32 = 1.0 / UNITS as f32;

impl Raster<'_> {
    fn fill(&mut self, path: Option<&Path>, color: BackendColor) -> Outcome {
        let to_pixels = Transform::from_scale(PIXELS_PER_UNIT, PIXELS_PER_UNIT);
        if let Some(path) = path {
            self.pixmap.fill_path(path, &paint(color), FillRule::Winding, to_pixels, None);
        }
        Ok(())
    }

    /// Draws a line by filling its outline, so that a translucent line has one colour where it crosses itself.
    fn stroke(&mut self, path: Option<&Path>, style: &impl BackendStyle) -> Outcome {
        let (line_cap, line_join) = (LineCap::Round, LineJoin::Round);
        let stroke = Stroke { width: style.stroke_width() as f32, line_cap, line_join, ..Stroke::default() };
        self.fill(path.and_then(|path| path.stroke(&stroke, PIXELS_PER_UNIT)).as_ref(), style.color())
    }
}

fn paint(color: BackendColor) -> Paint<'static> {
    let mut paint = Paint::default();
    let (red, green, blue) = color.rgb;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an opacity is in [0, 1]")]
    paint.set_color_rgba8(red, green, blue, (255.0 * color.alpha).round() as u8);
    paint
}

/// The polyline through some points.
fn polyline(points: &[BackendCoord]) -> Option<Path> {
    let mut path = PathBuilder::new();
    let [(x0, y0), .., (x1, y1)] = *points else { return None };
    if points.len() == 2 && (x0 == x1 || y0 == y1) {
        // Align horizontal and vertical lines, such as the grid, to one row of pixels instead of half of two.
        let middle = |units: i32| (units.div_euclid(UNITS) * UNITS) as f32 + 0.5 * UNITS as f32;
        path.move_to(middle(x0), middle(y0));
        path.line_to(middle(x1), middle(y1));
        return path.finish();
    }
    path.move_to(x0 as f32, y0 as f32);
    points[1..].iter().for_each(|&(x, y)| path.line_to(x as f32, y as f32));
    path.finish()
}

impl DrawingBackend for Raster<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size.units()
    }

    fn ensure_prepared(&mut self) -> Outcome {
        Ok(())
    }

    fn present(&mut self) -> Outcome {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Outcome {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Outcome {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Outcome {
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
        if fill { self.fill_polygon(corners, style) } else { self.draw_path(corners, style) }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let points: Vec<_> = path.into_iter().collect();
        self.stroke(polyline(&points).as_ref(), style)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Outcome {
        let circle = PathBuilder::from_circle(x as f32, y as f32, radius as f32);
        if fill { self.fill(circle.as_ref(), style.color()) } else { self.stroke(circle.as_ref(), style) }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let points: Vec<_> = path.into_iter().collect();
        self.fill(polyline(&points).as_ref(), style.color())
    }

    /// Positions a text like the SVG backend, so that both formats look the same.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Outcome {
        const EX: f32 = 0.536;
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => 0.0,
            HPos::Center => -0.5 * self.font.width(text),
            HPos::Right => -self.font.width(text),
        };
        let baseline = match anchor.v_pos {
            VPos::Top => 0.76,
            VPos::Center => 0.5 * EX,
            VPos::Bottom => -0.5 * EX,
        };
        let degrees = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a text is at most as high as the image")]
        let em = (style.size() / FONT_FACTOR) as f32;
        let place = Transform::from_translate(left, baseline)
            .post_scale(em, em)
            .post_rotate(degrees)
            .post_translate(x as f32, y as f32);
        self.fill(self.font.outline(text, place).as_ref(), style.color())
    }
}

/// Drawing in memory cannot fail.
type Outcome = std::result::Result<(), DrawingErrorKind<Infallible>>;
