//! The font of PNG files: widths and outlines of texts, in em.

use ttf_parser::{Face, GlyphId, OutlineBuilder};
use zeno::{Command, PathBuilder, Transform};

/// Noto Sans: Latin, Greek and Cyrillic.
pub(crate) struct Font {
    face: Face<'static>,
    units_per_em: f32,
}

impl Font {
    pub(crate) fn load() -> Self {
        let face = Face::parse(ttf_noto_sans::REGULAR, 0).expect("the font that is built in is whole");
        Self { units_per_em: f32::from(face.units_per_em()), face }
    }

    /// How wide a text is, in em. In the fonts that others look at an SVG with, it may be a little wider.
    pub(crate) fn width(&self, text: &str) -> f32 {
        text.chars().map(|c| self.advance(self.glyph(c))).sum()
    }

    /// A text that fits a width in em: its middle is left out if it must be, since names often differ at their
    /// ends. What is no visible character becomes one.
    pub(crate) fn fit(&self, text: &str, width: f32) -> String {
        let chars: Vec<char> = text.chars().map(printable).collect();
        let whole: String = chars.iter().collect();
        if self.width(&whole) <= width {
            return whole;
        }
        let shortened = |n_kept: usize| {
            let n_tail = n_kept / 2;
            let (head, tail) = (&chars[..n_kept - n_tail], &chars[chars.len() - n_tail..]);
            head.iter().chain(&['…']).chain(tail).collect::<String>()
        };
        let candidates = (0..chars.len()).rev().map(shortened);
        candidates.into_iter().find(|candidate| self.width(candidate) <= width).unwrap_or_default()
    }

    /// The outline of a text whose baseline begins at the origin, moved by a transformation of em.
    pub(crate) fn outline(&self, text: &str, transform: &Transform) -> Vec<Command> {
        let mut path = vec![];
        let mut x = 0.0;
        for c in text.chars() {
            let glyph = self.glyph(c);
            // A font's y goes up, a picture's down.
            let em = 1.0 / self.units_per_em;
            let place = Transform::scale(em, -em).then_translate(x, 0.0).then(transform);
            self.face.outline_glyph(glyph, &mut Outline { path: &mut path, place });
            x += self.advance(glyph);
        }
        path
    }

    fn glyph(&self, c: char) -> GlyphId {
        self.face.glyph_index(c).unwrap_or_default()
    }

    fn advance(&self, glyph: GlyphId) -> f32 {
        f32::from(self.face.glyph_hor_advance(glyph).unwrap_or_default()) / self.units_per_em
    }
}

/// The character, or what stands for one that XML forbids.
fn printable(c: char) -> char {
    match c {
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if c.is_control() => ' ',
        _ => c,
    }
}

/// Puts what the font says into a path.
struct Outline<'a> {
    path: &'a mut Vec<Command>,
    place: Transform,
}

impl Outline<'_> {
    fn at(&self, x: f32, y: f32) -> zeno::Point {
        self.place.transform_point(zeno::Point::new(x, y))
    }
}

impl OutlineBuilder for Outline<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let to = self.at(x, y);
        self.path.move_to(to);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let to = self.at(x, y);
        self.path.line_to(to);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (control, to) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(control, to);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (first, second, to) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.curve_to(first, second, to);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_loses_its_middle() {
        let font = Font::load();
        let name = "shakespeare-6-layers-384-wide-seed-1337";
        let short = font.fit(name, 10.0);
        assert!(short.starts_with("shakes") && short.ends_with("1337") && short.contains('…'), "{short}");
        assert!(font.width(&short) <= 10.0 && font.width(&short) > 9.0, "{}", font.width(&short));
        assert_eq!(font.fit(name, 100.0), name);
        assert_eq!(font.fit(name, 0.1), "");
    }

    #[test]
    fn what_xml_forbids_is_replaced() {
        assert_eq!(Font::load().fit("a\u{1b}[1m\tb\u{ffff}", 100.0), "a [1m b\u{fffd}");
    }

    #[test]
    fn the_font_has_greek_and_cyrillic() {
        let font = Font::load();
        let missing = font.glyph('中');
        assert_eq!(missing, GlyphId(0));
        assert!("Ἄνδρα μοι ἔννεπε, Муза … − × ß".chars().all(|c| font.glyph(c) != missing));
    }
}
