//! A chart as PNG: plotters draws on a pixmap of tiny-skia, with text as the outlines of a font.
//!
//! Not on plotters' own bitmap: its wide lines have miters that look like spikes of the data.

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

/// The file.
pub(crate) fn render(chart: &Chart, size: Size) -> Result<Vec<u8>> {
    let mut pixmap = Pixmap::new(size.width, size.height).expect("a size is at most 10,000 pixels");
    let font = Font::load();
    {
        let root = Raster { size, font: &font, pixmap: &mut pixmap }.into_drawing_area();
        picture::draw(chart, size.em(), &font, &root).map_err(|error| Error::Draw(error.into()))?;
    }
    encode(&pixmap)
}

/// A pixmap as a file, without the opacity: the background is opaque.
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

/// A picture that shapes are drawn on. Their coordinates are in units.
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

    /// Fills the outline of a line, so that the line is one layer of colour where it crosses itself.
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

/// The straight lines through some points.
fn polyline(points: &[BackendCoord]) -> Option<Path> {
    let mut path = PathBuilder::new();
    let [(x0, y0), .., (x1, y1)] = *points else { return None };
    if points.len() == 2 && (x0 == x1 || y0 == y1) {
        // A level line, such as the grid's, covers one row of pixels rather than half of two.
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

    /// Places a text as the SVG backend does, so that both formats are one picture.
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
        #[expect(clippy::cast_possible_truncation, reason = "a text is at most as high as the picture")]
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
