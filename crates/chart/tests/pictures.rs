//! The contents of SVG and PNG charts, and the time to draw them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::time::{Duration, Instant};

use chart::{Chart, Error, Scale, Series, Style};
use expect_test::expect;

const SIZE: [u32; 2] = [480, 300];

fn series(name: &str, points: impl IntoIterator<Item = [f64; 2]>) -> Series {
    Series {
        name: name.into(),
        points: points.into_iter().collect(),
        style: Style::Strong,
        color: 0,
        marked: None,
    }
}

fn chart(series: Vec<Series>) -> Chart {
    Chart {
        title: "Ἄνδρα <&> \"quoted\"".into(),
        x_label: "step & step".into(),
        x_scale: Scale::Linear,
        y_label: "loss <nats>".into(),
        y_scale: Scale::Linear,
        series,
    }
}

fn run() -> Chart {
    let training = series("training", (1..=200).map(|step| [f64::from(step), 4.0 / f64::from(step)]));
    let best = Some([200.0, 0.75]);
    chart(vec![
        Series { style: Style::Pale, ..training },
        Series {
            marked: best, color: 1, ..series("Ἄνδρα <&>", [[0.0, 4.0], [100.0, 1.5], [200.0, 0.75]])
        },
    ])
}

/// The points of each curve's lines. Lines of two points, such as the grid and the legend, are left out.
fn lines(svg: &str) -> Vec<Vec<(i32, i32)>> {
    let attribute =
        |line: &str| line.split_once("points=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let polylines = svg.lines().filter(|line| line.starts_with("<polyline")).map(attribute);
    let point = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    let lines = polylines.map(|points| points.split_whitespace().map(point).collect::<Vec<_>>());
    lines.filter(|line| line.len() > 2).collect()
}

/// The texts with their y coordinates.
fn texts(svg: &str) -> Vec<(i32, String)> {
    let mut texts = vec![];
    let mut lines = svg.lines();
    while let Some(line) = lines.next() {
        if let Some((_, y)) = line.strip_prefix("<text ").and_then(|line| line.split_once(" y=\"")) {
            texts.push((y.split('"').next().unwrap().parse().unwrap(), lines.next().unwrap().to_owned()));
        }
    }
    texts
}

/// Width, height and pixels.
fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    (info.width, info.height, pixels)
}

#[test]
fn an_svg_has_its_size_and_its_texts_escaped() {
    let svg = run().svg(SIZE).unwrap();
    assert!(svg.starts_with("<svg "), "{svg}");
    assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains(r#"width="480" height="300" viewBox="0 0 4800 3000""#), "{svg}");
    let texts: Vec<_> = texts(&svg).into_iter().map(|(_, text)| text).collect();
    let expected = [
        "Ἄνδρα &lt;&amp;&gt; &quot;quoted&quot;",
        "step &amp; step",
        "loss &lt;nats&gt;",
        "training",
        "Ἄνδρα &lt;&amp;&gt;",
        "0.7500",
        "200",
    ];
    for text in expected {
        assert!(texts.iter().any(|found| found == text), "{text} is missing in {texts:?}");
    }
    assert!(!svg.contains("<&>"));
}

#[test]
fn a_small_svg_matches_the_snapshot() {
    let lone = chart(vec![Series {
        marked: Some([3.0, 1.5]),
        ..series("valid", [[0.0, 4.0], [2.0, 2.0], [3.0, 1.5]])
    }]);
    expect![[r##"
        <svg xmlns="http://www.w3.org/2000/svg" width="160" height="160" viewBox="0 0 1600 1600" stroke-linejoin="round" stroke-linecap="round"><!-- Drawn by Kindling -->
        <rect x="0" y="0" width="1600" height="1600" opacity="1" fill="#FFFFFF" stroke="none"/>
        <text x="437" y="160" dy="0.5ex" text-anchor="start" font-family="sans-serif" font-size="143" opacity="1" fill="#333333">
        Ἄνδρα …uoted&quot;
        </text>
        <polyline fill="none" opacity="1" stroke="#0072B2" stroke-width="19" points="437,380 635,380 "/>
        <circle cx="536" cy="380" r="24" opacity="1" fill="#0072B2" stroke="none" stroke-width="1"/>
        <text x="690" y="380" dy="0.5ex" text-anchor="start" font-family="sans-serif" font-size="110" opacity="1" fill="#333333">
        valid
        </text>
        <text x="88" y="844" dy="0.76em" text-anchor="middle" font-family="sans-serif" font-size="110" opacity="1" fill="#333333" transform="rotate(270, 88, 844)">
        loss &lt;nats&gt;
        </text>
        <text x="930" y="1512" dy="-0.5ex" text-anchor="middle" font-family="sans-serif" font-size="110" opacity="1" fill="#333333">
        step &amp; step
        </text>
        <line opacity="1" stroke="#E6E6E6" stroke-width="10" x1="437" y1="1159" x2="437" y2="528"/>
        <line opacity="1" stroke="#E6E6E6" stroke-width="10" x1="1094" y1="1159" x2="1094" y2="528"/>
        <line opacity="1" stroke="#E6E6E6" stroke-width="10" x1="437" y1="1016" x2="1423" y2="1016"/>
        <line opacity="1" stroke="#E6E6E6" stroke-width="10" x1="437" y1="557" x2="1423" y2="557"/>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="436,528 436,1159 "/>
        <text x="371" y="1016" dy="0.5ex" text-anchor="end" font-family="sans-serif" font-size="104.99999999999999" opacity="1" fill="#333333">
        2
        </text>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="403,1016 436,1016 "/>
        <text x="371" y="557" dy="0.5ex" text-anchor="end" font-family="sans-serif" font-size="104.99999999999999" opacity="1" fill="#333333">
        4
        </text>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="403,557 436,557 "/>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="437,1160 1423,1160 "/>
        <text x="437" y="1226" dy="0.76em" text-anchor="middle" font-family="sans-serif" font-size="104.99999999999999" opacity="1" fill="#333333">
        0
        </text>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="437,1160 437,1193 "/>
        <text x="1094" y="1226" dy="0.76em" text-anchor="middle" font-family="sans-serif" font-size="104.99999999999999" opacity="1" fill="#333333">
        2
        </text>
        <polyline fill="none" opacity="1" stroke="#6E6E6E" stroke-width="10" points="1094,1160 1094,1193 "/>
        <polyline fill="none" opacity="1" stroke="#0072B2" stroke-width="19" points="437,557 1094,1016 1423,1130 "/>
        <circle cx="437" cy="557" r="24" opacity="1" fill="#0072B2" stroke="none" stroke-width="1"/>
        <circle cx="1094" cy="1016" r="24" opacity="1" fill="#0072B2" stroke="none" stroke-width="1"/>
        <circle cx="1423" cy="1130" r="24" opacity="1" fill="#0072B2" stroke="none" stroke-width="1"/>
        <circle cx="1423" cy="1130" r="53" opacity="1" fill="#FFFFFF" stroke="none" stroke-width="1"/>
        <circle cx="1423" cy="1130" r="40" opacity="1" fill="#0072B2" stroke="none" stroke-width="1"/>
        <rect x="857" y="768" width="325" height="121" opacity="0.75" fill="#FFFFFF" stroke="none"/>
        <text x="1019" y="828" dy="0.5ex" text-anchor="middle" font-family="sans-serif" font-size="110" opacity="1" fill="#333333">
        1.500
        </text>
        </svg>
    "##]].assert_eq(&lone.svg([160, 160]).unwrap());
}

#[test]
fn a_png_has_its_size_and_is_not_blank() {
    for size in [SIZE, [1200, 600]] {
        let (width, height, pixels) = decode(&run().png(size).unwrap());
        assert_eq!([width, height], size);
        let (vermilion, white): (&[u8], &[u8]) = (&[213, 94, 0], &[255, 255, 255]);
        let n = |color| pixels.chunks_exact(3).filter(|&pixel| pixel == color).count();
        assert!(n(vermilion) > 300, "{} pixels of the curve", n(vermilion));
        assert!(n(white) > (width * height / 2) as usize, "{} white pixels", n(white));
        assert_eq!(pixels[..3], *white);
    }
}

#[test]
fn a_pale_curve_stays_pale_where_it_crosses_itself() {
    let noisy = (0..5000).map(|step| [f64::from(step), 2.0 + (f64::from(step) * 0.7).sin()]);
    let pale = chart(vec![Series { style: Style::Pale, ..series("training", noisy) }]);
    let (_, _, pixels) = decode(&pale.png(SIZE).unwrap());
    let blue = pixels.chunks_exact(3).filter(|pixel| pixel[2] > pixel[0].saturating_add(20));
    let reds: Vec<u8> = blue.map(|pixel| pixel[0]).collect();
    // The colour is 45 % of (0, 114, 178) over white or the grid; a few pixels are over the axis.
    let n_dark = reds.iter().filter(|&&red| red < 126).count();
    assert!(reds.len() > 10_000 && n_dark < reds.len() / 100, "{n_dark} of {}", reds.len());
}

#[test]
fn the_same_chart_has_the_same_bytes() {
    assert_eq!(run().svg(SIZE).unwrap(), run().svg(SIZE).unwrap());
    assert_eq!(run().png(SIZE).unwrap(), run().png(SIZE).unwrap());
    let other = Chart { y_scale: Scale::Log, ..run() };
    assert_ne!(other.svg(SIZE).unwrap(), run().svg(SIZE).unwrap());
    assert_ne!(other.png(SIZE).unwrap(), run().png(SIZE).unwrap());
}

#[test]
fn curves_are_below_the_legend() {
    let names =
        ["baseline", "wide", "a-run-with-a-very-long-name-for-its-own-good", "no-bias", "deep", "last"];
    let runs =
        names.map(|name| series(name, (0..50).map(|step| [f64::from(step), 4.0 - f64::from(step) / 20.0])));
    let svg = chart(runs.into()).svg(SIZE).unwrap();
    let texts = texts(&svg);
    let bottom = texts.iter().find(|(_, text)| text == "last").unwrap().0;
    let lines = lines(&svg);
    assert_eq!(lines.len(), names.len());
    assert!(lines.iter().flatten().all(|&(_, y)| y > bottom), "the legend ends at {bottom}");
    assert!(
        texts
            .iter()
            .any(|(_, text)| text.starts_with("a-run") && text.contains('…') && text.ends_with("good"))
    );
}

#[test]
fn a_value_that_cant_be_drawn_breaks_the_line() {
    let losses = [3.0, 2.5, 2.0, f64::NAN, 2.0, 1.5, 1.0, f64::INFINITY, 0.5];
    let points = losses.iter().enumerate().map(|(step, &loss)| [step as f64, loss]);
    let svg = chart(vec![series("", points.clone())]).svg(SIZE).unwrap();
    assert_eq!(lines(&svg).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    let dots = svg.matches("<circle").count();
    assert_eq!(dots, 7, "a point without neighbours is a dot too");

    // On a logarithmic scale, zero can't be drawn.
    let points = points.map(|[x, y]| [x, if y == 1.5 { 0.0 } else { y }]);
    let log = Chart { y_scale: Scale::Log, ..chart(vec![series("", points)]) };
    assert_eq!(lines(&log.svg(SIZE).unwrap()).len(), 1);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn charts_with_few_or_no_points_are_drawn() {
    let note = "nothing to show yet";
    let nothing = [vec![], vec![series("a", [])], vec![series("a", [[0.0, f64::NAN], [f64::NAN, 1.0]])]];
    for series in nothing {
        let chart = chart(series);
        assert!(chart.svg(SIZE).unwrap().contains(note));
        assert_eq!(decode(&chart.png(SIZE).unwrap()).0, 480);
    }
    let one = [
        series("a", [[7.0, 2.0]]),
        series("a", [[0.0, 2.0], [5.0, 2.0], [9.0, 2.0]]),
        series("a", [[0.0, 0.0]]),
    ];
    for series in one {
        for y_scale in [Scale::Linear, Scale::Log] {
            let is_drawable = y_scale == Scale::Linear || series.points[0][1] > 0.0;
            let chart = Chart { y_scale, ..chart(vec![series.clone()]) };
            let svg = chart.svg(SIZE).unwrap();
            assert_eq!(svg.contains(note), !is_drawable, "{svg}");
            assert!(!svg.contains("NaN"));
        }
    }
}

#[test]
fn several_marks_have_their_values_in_the_legend() {
    let marked =
        |name, value| Series { marked: Some([100.0, value]), ..series(name, [[0.0, 4.0], [100.0, value]]) };
    let svg = chart(vec![marked("first", 1.25), marked("second", 1.5)]).svg(SIZE).unwrap();
    let texts: Vec<_> = texts(&svg).into_iter().map(|(_, text)| text).collect();
    assert!(
        texts.contains(&"first 1.250".to_owned()) && texts.contains(&"second 1.500".to_owned()),
        "{texts:?}"
    );
    assert!(!texts.contains(&"1.250".to_owned()), "{texts:?}");
}

#[test]
fn only_sizes_within_the_limits_are_drawn() {
    let many = (0..30)
        .map(|i| series(&format!("a run with a long name, {i}"), [[0.0, 1.0], [1.0, 2.0], [2.0, 1.0]]));
    let crowded = chart(many.collect());
    for size in [[160, 160], [160, 900], [900, 160], [2000, 200]] {
        assert!(!lines(&crowded.svg(size).unwrap()).is_empty());
        assert_eq!(decode(&crowded.png(size).unwrap()).1, size[1]);
    }
    for size in [[159, 300], [480, 0], [480, 10_001]] {
        assert!(matches!(run().svg(size), Err(Error::Size { .. })));
        assert!(matches!(run().png(size), Err(Error::Size { .. })));
    }
}

#[test]
fn a_hundred_thousand_points_are_drawn_quickly_and_keep_their_spike() {
    let noisy = |step: i32| if step == 54_321 { 4.0 } else { 2.0 + (f64::from(step) * 0.7).sin() };
    let points = (0..100_000).map(|step| [f64::from(step), noisy(step)]);
    let long = chart(vec![Series { style: Style::Pale, ..series("training", points) }]);
    let start = Instant::now();
    let svg = long.svg([1200, 600]).unwrap();
    long.png([1200, 600]).unwrap();
    // Takes 0.1 s. Drawing all points, or rows of pixels that a line crosses thousands of times, would take longer.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let [line] = &lines(&svg)[..] else { panic!("one line") };
    assert!((2000..2500).contains(&line.len()), "{} points", line.len());
    let mut heights: Vec<_> = line.iter().map(|&(_, y)| y).collect();
    heights.sort_unstable();
    assert!(heights[1] - heights[0] > 1000, "one point is far above all others: {:?}", &heights[..3]);
}
