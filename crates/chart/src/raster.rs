//! A chart as PNG: a drawing backend whose shapes are smoothed and whose text is outlines of a font.
//!
//! The library's own bitmap backend places everything on whole pixels, tears wide lines open where they are
//! steep, and its text needs fonts of the system or is unevenly spaced.

use std::convert::Infallible;

use plotters::prelude::*;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind, FontTransform,
    text_anchor::{HPos, VPos},
};
use zeno::{Cap, Command, Join, PathBuilder, Stroke, Transform};

use crate::{
    Chart, Error, Result,
    coverage::Coverage,
    font::Font,
    layout::{Size, UNITS},
    look::FONT_FACTOR,
    picture,
};

/// The file.
pub(crate) fn render(chart: &Chart, size: Size) -> Result<Vec<u8>> {
    let mut pixels = vec![255; 3 * size.width as usize * size.height as usize];
    let font = Font::load();
    {
        let root = Raster { size, font: &font, pixels: &mut pixels }.into_drawing_area();
        picture::draw(chart, size.em(), &font, &root).map_err(|error| Error::Draw(error.into()))?;
    }
    encode(&pixels, size)
}

/// Red, green and blue of each pixel as a file.
fn encode(pixels: &[u8], size: Size) -> Result<Vec<u8>> {
    let mut file = vec![];
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

/// A picture that shapes are drawn on.
struct Raster<'a> {
    size: Size,
    font: &'a Font,
    /// Red, green and blue, row by row.
    pixels: &'a mut [u8],
}

impl Raster<'_> {
    /// Lays a colour over what is within a path, or along it.
    fn paint<'s>(&mut self, path: &[Command], style: impl Into<zeno::Style<'s>>, color: BackendColor) {
        self.blend(&Coverage::of(path, style.into()), color);
    }

    /// Lays a colour over what is covered.
    fn blend(&mut self, coverage: &Coverage, color: BackendColor) {
        let [width, height] = [self.size.width, self.size.height].map(i64::from);
        for (x, y, covered) in coverage.pixels() {
            if (0..width).contains(&x) && (0..height).contains(&y) {
                let first = 3 * usize::try_from(y * width + x).expect("the pixel is within the picture");
                let opacity = color.alpha * f64::from(covered) / 255.0;
                let (red, green, blue) = color.rgb;
                for (old, new) in self.pixels[first..first + 3].iter_mut().zip([red, green, blue]) {
                    *old = mixed(*old, new, opacity);
                }
            }
        }
    }
}

/// A colour over another.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
fn mixed(old: u8, new: u8, opacity: f64) -> u8 {
    (f64::from(old) + opacity * (f64::from(new) - f64::from(old))).round() as u8
}

/// Units in pixels.
fn pixels(units: impl Into<f64>) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a picture is at most 10,000 pixels wide")]
    let pixels = (units.into() / f64::from(UNITS)) as f32;
    pixels
}

fn point((x, y): BackendCoord) -> zeno::Point {
    zeno::Point::new(pixels(x), pixels(y))
}

/// A long line as short ones, each beginning where the one before it ends: the time that the rasterizer takes
/// grows with the square of how often a line crosses a row of pixels.
fn pieces(points: &[BackendCoord]) -> impl Iterator<Item = &[BackendCoord]> {
    const LENGTH: usize = 32;
    let last = points.len().saturating_sub(1);
    (0..last).step_by(LENGTH).map(move |first| &points[first..=(first + LENGTH).min(last)])
}

/// The straight lines through some points.
fn polyline(points: &[BackendCoord]) -> Vec<Command> {
    let mut path = vec![];
    if let &[(x0, y0), (x1, y1)] = points
        && (x0 == x1 || y0 == y1)
    {
        // A level line, such as the grid's, covers one row of pixels rather than half of two.
        let middle = |units: i32| pixels(units).floor() + 0.5;
        path.move_to([middle(x0), middle(y0)]);
        path.line_to([middle(x1), middle(y1)]);
        return path;
    }
    for (i, at) in points.iter().copied().map(point).enumerate() {
        if i == 0 {
            path.move_to(at);
        } else {
            path.line_to(at);
        }
    }
    path
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
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        if fill {
            self.fill_polygon(corners, style)
        } else {
            self.draw_path(corners.into_iter().chain([(left, top)]), style)
        }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let mut stroke = Stroke::new(pixels(style.stroke_width()));
        stroke.join(Join::Round).cap(Cap::Round);
        let points: Vec<_> = path.into_iter().collect();
        let pieces = pieces(&points).map(|piece| Coverage::of(&polyline(piece), (&stroke).into()));
        self.blend(&Coverage::union(&pieces.collect::<Vec<_>>()), style.color());
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Outcome {
        let mut path = vec![];
        path.add_circle(point(center), pixels(radius));
        if fill {
            self.paint(&path, zeno::Fill::NonZero, style.color());
        } else {
            self.paint(&path, Stroke::new(pixels(style.stroke_width())), style.color());
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let points: Vec<_> = path.into_iter().collect();
        self.paint(&polyline(&points), zeno::Fill::NonZero, style.color());
        Ok(())
    }

    /// Places a text as the SVG backend does, so that both formats are one picture.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Outcome {
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
            FontTransform::Rotate90 => 90.0_f32,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        let em = pixels(style.size() / FONT_FACTOR);
        let at = point(at);
        let transform = Transform::translation(left, baseline)
            .then_scale(em, em)
            .then_rotate(zeno::Angle::from_degrees(-degrees))
            .then_translate(at.x, at.y);
        let outline = self.font.outline(text, &transform);
        self.paint(&outline, zeno::Fill::NonZero, style.color());
        Ok(())
    }
}

/// What drawing in memory comes to: it cannot fail.
type Outcome = Result<(), DrawingErrorKind<Infallible>>;
