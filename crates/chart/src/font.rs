//! The font of PNG files: widths and outlines of texts, in em.

use tiny_skia::{Path, PathBuilder, Transform};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// Noto Sans: Latin, Greek and Cyrillic.
pub(crate) struct Font {
    face: Face<'static>,
    units_per_em: f32,
}

impl Font {
    pub(crate) fn load() -> Self {
        let face = Face::parse(ttf_noto_sans::REGULAR, 0).expect("the built-in font is valid");
        Self { units_per_em: f32::from(face.units_per_em()), face }
    }

    /// Width of a text in em. An SVG viewer's font may be slightly wider.
    pub(crate) fn width(&self, text: &str) -> f32 {
        text.chars().map(|c| self.advance(self.glyph(c))).sum()
    }

    /// Shortens a text to a width in em. The middle is omitted, since names often differ at their ends. Control
    /// characters are replaced.
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

    /// The outline of a text whose baseline starts at the origin in em units, transformed. `None` without an outline,
    /// as for a space.
    pub(crate) fn outline(&self, text: &str, transform: Transform) -> Option<Path> {
        // The y axis of a font points up, that of an image down.
        let em =
            Transform::from_scale(1.0, -1.0).post_scale(1.0 / self.units_per_em, 1.0 / self.units_per_em);
        let mut path = PathBuilder::new();
        let mut x = 0.0;
        for c in text.chars() {
            let glyph = self.glyph(c);
            let mut outline = Outline(PathBuilder::new());
            self.face.outline_glyph(glyph, &mut outline);
            let place = em.post_translate(x, 0.0).post_concat(transform);
            if let Some(outline) = outline.0.finish().and_then(|outline| outline.transform(place)) {
                path.push_path(&outline);
            }
            x += self.advance(glyph);
        }
        path.finish()
    }

    fn glyph(&self, c: char) -> GlyphId {
        self.face.glyph_index(c).unwrap_or_default()
    }

    fn advance(&self, glyph: GlyphId) -> f32 {
        f32::from(self.face.glyph_hor_advance(glyph).unwrap_or_default()) / self.units_per_em
    }
}

/// Replaces characters that XML forbids.
fn printable(c: char) -> char {
    match c {
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ if c.is_control() => ' ',
        _ => c,
    }
}

/// A glyph as a path.
struct Outline(PathBuilder);

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.0.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.0.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_shortened_in_the_middle() {
        let font = Font::load();
        let name = "shakespeare-6-layers-384-wide-seed-1337";
        let short = font.fit(name, 10.0);
        assert!(short.starts_with("shakes") && short.ends_with("1337") && short.contains('…'), "{short}");
        assert!(font.width(&short) <= 10.0 && font.width(&short) > 9.0, "{}", font.width(&short));
        assert_eq!(font.fit(name, 100.0), name);
        assert_eq!(font.fit(name, 0.1), "");
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
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
