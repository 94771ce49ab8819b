//! Draws the five kinds of flowers. They differ in shape; their colors overlap.
//!
//! Each flower is drawn around the origin with radius 1. A transform sets its position, size, pose
//! and perspective.

use std::f32::consts::{PI, TAU};

use rand::{Rng, RngExt};
use tiny_skia::Transform;

use super::canvas::{Canvas, Color, Fill, disc, outline, petal};
use super::scene::leaf_green;

const CREAM: Color = Color(0.98, 0.96, 0.9);
const YELLOW: Color = Color(0.98, 0.82, 0.12);
const ORANGE: Color = Color(0.95, 0.55, 0.1);
const RED: Color = Color(0.82, 0.1, 0.13);
const PINK: Color = Color(0.95, 0.6, 0.72);
const LILAC: Color = Color(0.62, 0.38, 0.82);
const WHITE: Color = Color::WHITE;

/// Returns a random one of the colors, slightly changed.
fn random_color(colors: &[Color], rng: &mut impl Rng) -> Color {
    let color = colors[rng.random_range(0..colors.len())];
    let other = Color(rng.random(), rng.random(), rng.random());
    color.mix(other, rng.random_range(0.0..0.12))
}

fn rotated(place: Transform, angle: f32) -> Transform {
    place.pre_concat(Transform::from_rotate(angle.to_degrees()))
}

/// Draws a daisy: a ring of many thin petals around a small disc.
pub fn daisy(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color = random_color(
        &[WHITE, WHITE, WHITE, WHITE, WHITE, WHITE, PINK.lighter(0.3), YELLOW.lighter(0.5)],
        rng,
    );
    let heart = random_color(&[YELLOW, ORANGE], rng);
    let count = rng.random_range(13..21);
    let inner = rng.random_range(0.26..0.33);
    let width = TAU / count as f32 * rng.random_range(0.55..0.66);
    let shadow = leaf_green(rng).darker(0.7);
    canvas.fill(
        &disc(0.85),
        &Fill::Radial((0.0, 0.0), 0.85, [(shadow, 0.9), (shadow, 0.3)]),
        place,
    );
    for layer in 0..2 {
        for k in 0..count {
            let angle = (k as f32 + layer as f32 * 0.5 + rng.random_range(-0.15..0.15)) * TAU
                / count as f32;
            let length = rng.random_range(0.88..1.0) - 0.05 * layer as f32;
            let shape = petal(inner * 0.6, length, width, 0.7, 0.9);
            let shade = rng.random_range(0.0..0.08) + if layer == 0 { 0.4 } else { 0.0 };
            let here = rotated(place, angle);
            let tip = color.darker(shade);
            canvas.fill(
                &shape,
                &Fill::Linear([(0.2, 0.0), (1.0, 0.0)], [tip.darker(0.3), tip]),
                here,
            );
            canvas.stroke(&shape, 0.012, &Fill::Flat(color.darker(0.6), 0.5), here);
        }
    }
    canvas.fill(
        &disc(inner),
        &Fill::Radial(
            (-inner * 0.3, -inner * 0.3),
            inner * 1.4,
            [(heart.lighter(0.2), 1.0), (heart.darker(0.4), 1.0)],
        ),
        place,
    );
    let dot = disc(inner * 0.09);
    for k in 0..40 {
        let (x, y) = phyllotaxis(k, 40, inner * 0.92);
        canvas.fill(&dot, &Fill::Flat(heart.darker(0.35), 0.6), place.pre_translate(x, y));
    }
}

/// Draws a dandelion: a seed head of fine threads, or a flower of many narrow petals.
pub fn dandelion(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    if rng.random_bool(0.45) { puffball(canvas, place, rng) } else { tufts(canvas, place, rng) }
}

fn puffball(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color =
        random_color(&[WHITE, WHITE, CREAM, Color(0.85, 0.87, 0.9), YELLOW.lighter(0.6)], rng);
    let halo =
        Fill::Radial((0.0, 0.0), 1.0, [(color.darker(0.55), 0.75), (color.darker(0.3), 0.15)]);
    canvas.fill(&disc(1.0), &halo, place);
    let count = rng.random_range(110..150);
    for k in 0..count {
        let (x, y) = phyllotaxis(k, count, 0.97);
        let (angle, reach) = (y.atan2(x), x.hypot(y));
        let here = rotated(place, angle);
        let thread = outline(|path| {
            path.move_to(reach * 0.3, 0.0);
            path.line_to(reach * 0.85, 0.0);
        });
        let bright = color.darker(rng.random_range(0.0..0.15));
        canvas.stroke(&thread, 0.012, &Fill::Flat(bright, 0.8), here);
        // The pappus: hairs that fan out from the end of the thread.
        let spread = 0.16 + 0.1 * (1.0 - reach);
        let pappus = outline(|path| {
            for hair in -3..=3 {
                let bend = hair as f32 / 3.0 * 1.3 + rng.random_range(-0.15..0.15);
                path.move_to(reach * 0.85, 0.0);
                path.line_to(reach * 0.85 + spread * bend.cos(), spread * bend.sin());
            }
        });
        canvas.stroke(&pappus, 0.01, &Fill::Flat(bright, 0.9), here);
    }
    let heart = Color(0.35, 0.28, 0.18);
    canvas.fill(&disc(0.08), &Fill::Radial((0.0, 0.0), 0.08, [(heart, 0.8), (heart, 0.2)]), place);
}

fn tufts(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color = random_color(&[YELLOW, YELLOW, YELLOW, YELLOW, YELLOW, ORANGE], rng);
    canvas.fill(&disc(0.5), &Fill::Flat(color.darker(0.25), 1.0), place);
    let layers = 6;
    for layer in 0..layers {
        let depth = layer as f32 / (layers - 1) as f32;
        let reach = 1.0 - 0.72 * depth;
        let count = (80.0 * (0.3 + 0.7 * reach)) as usize;
        for k in 0..count {
            let angle = (k as f32 + rng.random_range(-0.5..0.5)) * TAU / count as f32;
            let length = reach * rng.random_range(0.82..1.0);
            let strap = petal(length * 0.25, length, 0.045, 0.75, 0.6);
            let tip = color.darker(rng.random_range(0.0..0.2)).lighter(depth * 0.15);
            let fill = Fill::Linear([(length * 0.3, 0.0), (length, 0.0)], [tip.darker(0.45), tip]);
            canvas.fill(&strap, &fill, rotated(place, angle));
        }
    }
}

/// Draws a sunflower: a large dark disc of seeds with pointed petals around it.
pub fn sunflower(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color = random_color(&[YELLOW, YELLOW, YELLOW, ORANGE, CREAM, RED.mix(ORANGE, 0.3)], rng);
    let inner = rng.random_range(0.5..0.6);
    let count = rng.random_range(16..24);
    let width = TAU / count as f32 * rng.random_range(0.75..0.95);
    for layer in 0..2 {
        for k in 0..count {
            let angle =
                (k as f32 + layer as f32 * 0.5 + rng.random_range(-0.2..0.2)) * TAU / count as f32;
            let length = rng.random_range(0.88..1.0);
            let shape = petal(inner * 0.8, length, width, 0.45, 0.0);
            let shade = rng.random_range(0.0..0.1) + if layer == 0 { 0.25 } else { 0.0 };
            let here = rotated(place, angle);
            let tip = color.darker(shade);
            canvas.fill(
                &shape,
                &Fill::Linear([(inner, 0.0), (1.0, 0.0)], [tip.darker(0.35), tip]),
                here,
            );
            canvas.stroke(&shape, 0.01, &Fill::Flat(color.darker(0.65), 0.5), here);
        }
    }
    let seed = random_color(
        &[
            Color(0.25, 0.14, 0.06),
            Color(0.17, 0.1, 0.06),
            Color(0.3, 0.22, 0.08),
            Color(0.4, 0.4, 0.15),
        ],
        rng,
    );
    let ground =
        Fill::Radial((0.0, 0.0), inner, [(seed.lighter(0.1), 1.0), (seed.darker(0.5), 1.0)]);
    canvas.fill(&disc(inner), &ground, place);
    let count = rng.random_range(130..190);
    let dot = disc(inner * 0.6 / (count as f32).sqrt());
    for k in 0..count {
        let (x, y) = phyllotaxis(k, count, inner * 0.95);
        let bright = seed.mix(Color(0.85, 0.65, 0.3), rng.random_range(0.25..0.65));
        canvas.fill(&dot, &Fill::Flat(bright, 1.0), place.pre_translate(x, y));
    }
}

/// Draws a rose: broad petals that overlap in a spiral, smaller and darker towards the center.
pub fn rose(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color = random_color(&[RED, RED, RED, PINK, PINK, YELLOW.lighter(0.2), CREAM], rng);
    let golden = PI * (3.0 - 5f32.sqrt());
    let start = rng.random_range(0.0..TAU);
    let count = 22;
    for k in 0..count {
        let depth = k as f32 / (count - 1) as f32;
        let distance = 0.55 * (1.0 - depth).powf(0.8);
        let radius = 0.47 - 0.27 * depth;
        let here = rotated(place, start + k as f32 * golden).pre_translate(distance, 0.0);
        let wide = rng.random_range(1.05..1.25);
        let shape = outline(|path| {
            path.move_to(-radius, 0.0);
            path.cubic_to(
                -radius,
                radius * wide,
                radius * 0.5,
                radius * wide * 1.1,
                radius * 0.9,
                radius * 0.45,
            );
            path.quad_to(radius * 1.04, 0.0, radius * 0.9, -radius * 0.45);
            path.cubic_to(
                radius * 0.5,
                -radius * wide * 1.1,
                -radius,
                -radius * wide,
                -radius,
                0.0,
            );
            path.close();
        });
        let rim = color.darker(0.3 * depth + rng.random_range(0.0..0.08));
        let fade = [(-radius * 0.7, 0.0), (radius, 0.0)];
        canvas.fill(&shape, &Fill::Linear(fade, [rim.darker(0.85), rim.lighter(0.1)]), here);
        canvas.stroke(&shape, 0.022, &Fill::Flat(rim.lighter(0.5), 0.85), here);
    }
    // The bud: a spiral.
    let bud = outline(|path| {
        path.move_to(0.02, 0.0);
        for k in 1..40 {
            let (angle, radius) = (start + k as f32 * 0.36, 0.02 + 0.006 * k as f32);
            path.line_to(radius * angle.cos(), radius * angle.sin());
        }
    });
    canvas.stroke(&bud, 0.035, &Fill::Flat(color.darker(0.65), 0.9), place);
    canvas.stroke(&bud, 0.014, &Fill::Flat(color.lighter(0.3), 0.8), place);
}

/// Draws a tulip seen from the side: a cup on a stem, with leaves.
pub fn tulip(canvas: &mut Canvas, place: Transform, rng: &mut impl Rng) {
    let color = random_color(&[LILAC, LILAC, LILAC, PINK, ORANGE, RED, YELLOW, CREAM], rng);
    let green = leaf_green(rng);
    let long = 4.0;
    let stem = outline(|path| {
        path.move_to(0.0, 0.7);
        path.quad_to(rng.random_range(-0.2..0.2), 2.0, rng.random_range(-0.3..0.3), long);
    });
    canvas.stroke(&stem, 0.16, &Fill::Flat(green.darker(0.25), 1.0), place);
    canvas.stroke(&stem, 0.06, &Fill::Flat(green.lighter(0.2), 0.8), place);
    for side in [-1.0, 1.0] {
        let lean = side * rng.random_range(0.25..0.5) - PI / 2.0;
        leaf(
            canvas,
            rotated(place.pre_translate(0.0, rng.random_range(2.8..3.6)), lean),
            green,
            rng,
        );
    }
    let flare: f32 = rng.random_range(0.0..0.25);
    let tip = color.lighter(0.12);
    let base = color.mix(green, 0.25).darker(0.25);
    // From back to front: two petals with visible tips, the petals at the sides, the petal in the
    // middle.
    for (lean, wide, shade) in [
        (-0.22, 0.75, 0.35),
        (0.22, 0.75, 0.35),
        (-0.36 - flare, 0.8, 0.14),
        (0.36 + flare, 0.8, 0.18),
        (0.0, 0.85, 0.0),
    ] {
        let here = rotated(place.pre_translate(0.0, 0.9), lean - PI / 2.0);
        let tall = rng.random_range(1.7..1.85);
        let shape = outline(|path| {
            path.move_to(0.0, 0.0);
            path.cubic_to(0.1, wide * 0.55, tall * 0.35, wide * 0.72, tall * 0.6, wide * 0.5);
            path.quad_to(tall * 0.85, wide * 0.3, tall, 0.0);
            path.quad_to(tall * 0.85, -wide * 0.3, tall * 0.6, -wide * 0.5);
            path.cubic_to(tall * 0.35, -wide * 0.72, 0.1, -wide * 0.55, 0.0, 0.0);
            path.close();
        });
        let ends = [base.darker(shade), tip.darker(shade)];
        canvas.fill(&shape, &Fill::Linear([(0.0, 0.0), (tall, 0.0)], ends), here);
        canvas.stroke(&shape, 0.02, &Fill::Flat(color.darker(0.55), 0.5), here);
        for fold in -3..=3 {
            let across = fold as f32 / 3.0 * wide * 0.4;
            let vein = outline(|path| {
                path.move_to(0.1, across * 0.2);
                path.cubic_to(
                    tall * 0.3,
                    across * 1.2,
                    tall * 0.6,
                    across * 1.1,
                    tall * 0.93,
                    across * 0.15,
                );
            });
            let fill = if fold % 2 == 0 { color.darker(0.6) } else { color.lighter(0.5) };
            canvas.stroke(&vein, 0.026, &Fill::Flat(fill, 0.55), here);
        }
    }
}

/// Draws a long leaf along the x axis, with veins along its length.
fn leaf(canvas: &mut Canvas, place: Transform, green: Color, rng: &mut impl Rng) {
    let (long, wide) = (rng.random_range(2.4..3.4), rng.random_range(0.55..0.8));
    let shape = petal(0.0, long, wide, 0.4, 0.0);
    let shade = rng.random_range(0.0..0.3);
    canvas.fill(
        &shape,
        &Fill::Linear([(0.0, 0.0), (long, 0.0)], [green.darker(0.3 + shade), green.lighter(0.1)]),
        place,
    );
    for k in -2..=2 {
        let across = k as f32 / 2.0 * wide * 0.36;
        let vein = outline(|path| {
            path.move_to(0.1, across * 0.3);
            path.quad_to(long * 0.4, across * 1.6, long * 0.92, across * 0.1);
        });
        canvas.stroke(&vein, 0.02, &Fill::Flat(green.darker(0.5), 0.5), place);
    }
}

/// Returns the position of seed `k` of `count` in a disc: a spiral with the golden angle.
fn phyllotaxis(k: usize, count: usize, radius: f32) -> (f32, f32) {
    let angle = k as f32 * PI * (3.0 - 5f32.sqrt());
    let distance = radius * ((k as f32 + 0.5) / count as f32).sqrt();
    (distance * angle.cos(), distance * angle.sin())
}
