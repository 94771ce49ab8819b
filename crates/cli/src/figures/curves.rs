//! Charts of loss and accuracy against the epoch.

use std::ops::Range;

use alexnet::core::train::{EpochRow, Progress};
use anyhow::{Result, anyhow};
use image::RgbImage;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::chart::{Area, OVERSAMPLE, chart, font, headed, pixels, rgb, style_axes};

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 500;
/// With more epochs than this, points have no dots, because they would cover the line.
const DOTS: usize = 60;

/// Draws a figure of 1200×500 with two panels: the losses, and the validation accuracy. The best
/// epoch is marked in both. Numbers that are not finite are left out. Without validation, the only
/// panel is that of the training loss.
pub fn curves(progress: &Progress) -> Result<RgbImage> {
    chart(WIDTH, HEIGHT, |area| draw(area, progress))
}

fn draw(area: &Area, progress: &Progress) -> Result<()> {
    let series = |label, color, value: fn(&EpochRow) -> Option<f64>| Series {
        label,
        color,
        points: progress
            .history
            .iter()
            .filter_map(|row| Some((row.epoch as f64, value(row)?)))
            // Values outside the range of f32 are left out too: they come from an overflow in the
            // engine.
            .filter(|(_, value)| (*value as f32).is_finite())
            .collect(),
    };
    let mut losses = vec![series("training", super::BLUE, |row| Some(row.train_loss))];
    let is_validated = progress.history.iter().all(|row| row.validation.is_some());
    if is_validated {
        let loss = |row: &EpochRow| row.validation.map(|validation| validation.loss);
        losses.push(series("validation", super::ORANGE, loss));
    }
    let last = progress.history.last().map_or(1, |row| row.epoch);
    let epochs = 0.5..last as f64 + 0.5;
    let highest =
        losses.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let best = progress.best();
    let highest = if highest > 0.0 { highest * 1.05 } else { 1.0 };
    if !is_validated {
        return panel(area, "training loss", epochs, 0.0..highest, &losses, None);
    }
    let panels = area.split_evenly((1, 2));
    let [left, right] = panels.as_slice() else {
        return Err(anyhow!("the figure was not split into two panels"));
    };
    panel(left, "loss", epochs.clone(), 0.0..highest, &losses, best.map(|row| (row.epoch, None)))?;
    let mut accuracies = vec![series("top 1", super::GREEN, EpochRow::accuracy)];
    let top5 = series("top 5", super::BLUE, |row| row.validation.and_then(|v| v.top5));
    if !top5.points.is_empty() {
        accuracies.push(top5);
    }
    // The axis ends at 1.08 so that the mark at an accuracy of 1 is visible.
    let marked = best.map(|row| (row.epoch, row.accuracy()));
    panel(right, "validation accuracy", epochs, 0.0..1.08, &accuracies, marked)
}

struct Series {
    label: &'static str,
    color: super::Color,
    points: Vec<(f64, f64)>,
}

/// Draws one chart. `best` is the epoch to mark, and its value to write, if any.
fn panel(
    area: &Area,
    title: &str,
    epochs: Range<f64>,
    values: Range<f64>,
    series: &[Series],
    best: Option<(u64, Option<f64>)>,
) -> Result<()> {
    let legend: Vec<_> = series.iter().map(|line| (line.label, line.color)).collect();
    let area = &headed(area, title, if legend.len() > 1 { &legend } else { &[] })?;
    let font = |size, color| font(area, size, color);
    let mut chart = ChartBuilder::on(area)
        .margin(pixels(14))
        .x_label_area_size(pixels(44))
        .y_label_area_size(pixels(56))
        .build_cartesian_2d(epochs.clone(), values.clone())?;
    let whole = |epoch: &f64| match (epoch - epoch.round()).abs() < 1e-6 {
        true => format!("{epoch:.0}"),
        false => String::new(),
    };
    let powers = |value: &f64| format!("{value:.0e}");
    let mut mesh = chart.configure_mesh();
    if values.end >= 1e5 {
        mesh.y_label_formatter(&powers);
    }
    style_axes(&mut mesh, area);
    mesh.disable_x_mesh().x_desc("epoch").x_label_formatter(&whole).draw()?;

    for line in series {
        let style = rgb(line.color).stroke_width(pixels(2));
        chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        if line.points.len() <= DOTS {
            let dot = |point: &(f64, f64)| Circle::new(*point, pixels(3), style.filled());
            chart.draw_series(line.points.iter().map(dot))?;
        }
    }

    if let Some((epoch, value)) = best {
        let (epoch, dash) = (epoch as f64, rgb(super::MUTED).stroke_width(OVERSAMPLE));
        let ends = [(epoch, values.start), (epoch, values.end)];
        chart.draw_series(DashedLineSeries::new(ends, pixels(5), pixels(5), dash))?;
        if let Some(value) = value.filter(|value| value.is_finite()) {
            chart.draw_series([Circle::new(
                (epoch, value),
                pixels(6),
                dash.stroke_width(pixels(2)),
            )])?;
            let (side, offset) = match epoch < (epochs.start + epochs.end) / 2.0 {
                true => (HPos::Left, 10),
                false => (HPos::Right, -10),
            };
            let anchor = Pos::new(side, VPos::Bottom);
            // At the foot of the line, since the curve of the top-5 accuracy may be near the mark.
            let at = EmptyElement::at((epoch, values.start));
            let place = (offset * OVERSAMPLE as i32, -(pixels(6) as i32));
            let label = format!("best: {value:.3}, epoch {epoch}");
            chart.draw_series([at + Text::new(label, place, font(16, super::INK).pos(anchor))])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alexnet::core::train::Validation;
    use image::Rgb;

    use super::*;

    fn progress(rows: &[(f64, f64, f64)]) -> Progress {
        let row = |(&(train_loss, loss, accuracy), epoch)| EpochRow {
            epoch,
            time: 0.0,
            train_loss,
            validation: Some(Validation { loss, accuracy, top5: None }),
            lr: 1e-3,
        };
        Progress { history: rows.iter().zip(1..).map(row).collect(), ..Progress::default() }
    }

    fn near(pixel: &Rgb<u8>, color: super::super::Color) -> bool {
        pixel.0.iter().zip(color.0).all(|(a, b)| a.abs_diff(b) < 40)
    }

    fn count(figure: &RgbImage, color: super::super::Color) -> usize {
        figure.pixels().filter(|pixel| near(pixel, color)).count()
    }

    const FALLING: [(f64, f64, f64); 4] =
        [(1.6, 1.9, 0.3), (1.2, 1.7, 0.5), (0.9, 1.5, 0.7), (0.7, 1.6, 0.6)];

    #[test]
    fn runs_of_any_length_have_the_same_size() {
        let long: Vec<_> =
            (1..=500).map(|i| (2.0 / f64::from(i), 3.0 / f64::from(i), 0.5)).collect();
        let empty = curves(&progress(&[])).unwrap();
        for rows in [&FALLING[..1], &FALLING, &long] {
            let drawn = curves(&progress(rows)).unwrap();
            assert_eq!(drawn.dimensions(), (WIDTH, HEIGHT));
            for color in [super::super::BLUE, super::super::ORANGE, super::super::GREEN] {
                let [with, without] = [&drawn, &empty].map(|figure| count(figure, color));
                assert!(with > without, "{} rows, {color:?}: {with}, {without}", rows.len());
            }
        }
    }

    #[test]
    fn without_validation_only_the_training_loss_is_drawn() {
        let mut progress = progress(&FALLING);
        progress.history.iter_mut().for_each(|row| row.validation = None);
        let drawn = curves(&progress).unwrap();
        assert_eq!(drawn.dimensions(), (WIDTH, HEIGHT));
        let [blue, orange, green] = [super::super::BLUE, super::super::ORANGE, super::super::GREEN]
            .map(|c| count(&drawn, c));
        assert!(blue > 1000 && orange == 0 && green == 0, "{blue} {orange} {green}");
    }

    #[test]
    fn the_accuracy_among_five_is_drawn_if_there_is_one() {
        let mut progress = progress(&FALLING);
        let blue = |progress: &Progress| count(&curves(progress).unwrap(), super::super::BLUE);
        let before = blue(&progress);
        for validation in progress.history.iter_mut().filter_map(|row| row.validation.as_mut()) {
            validation.top5 = Some(0.9);
        }
        assert!(blue(&progress) > before + 500, "{before}, {}", blue(&progress));
    }

    /// The line must be visible in every column from the first epoch to the last.
    #[test]
    fn nothing_covers_a_loss_that_stays_high() {
        let drawn = curves(&progress(&[(1.6, 0.1, 0.2); 8])).unwrap();
        // From row 70 on, below the legend, which is blue too.
        let visible =
            |x: &u32| (70..HEIGHT).any(|y| near(drawn.get_pixel(*x, y), super::super::BLUE));
        let columns: Vec<u32> = (0..WIDTH / 2).filter(visible).collect();
        let line = columns.chunk_by(|a, b| a + 1 == *b).map(<[u32]>::len).max();
        // Seven of the eight steps of the axis, which extends half a step before the first and
        // after the last epoch.
        assert!(line > Some(7 * (WIDTH as usize / 2 - 100) / 8), "{line:?}");
    }

    #[test]
    fn extreme_values_are_drawn_or_left_out() {
        for value in [0.0, 1e-12, 1e6, 3e38, 1e300, f64::MAX, f64::NAN, f64::INFINITY, -1.0] {
            curves(&progress(&[FALLING[0], (value, value, value), FALLING[1]])).unwrap();
        }
    }

    #[test]
    fn values_that_are_not_finite_do_not_change_the_axes() {
        let with = |value| {
            let mut rows = FALLING;
            rows[1].1 = value;
            curves(&progress(&rows)).unwrap()
        };
        assert!(with(f64::NAN) == with(f64::INFINITY));
        let orange = |figure: &RgbImage| count(figure, super::super::ORANGE);
        let (gap, complete) = (with(f64::NAN), with(1.7));
        assert!(orange(&gap) > 200 && gap != complete);
        assert_eq!(count(&gap, super::super::BLUE), count(&complete, super::super::BLUE));
    }

    #[test]
    fn the_mark_is_at_the_best_epoch() {
        for best in [1, 4] {
            let mut rows = FALLING;
            rows[best - 1].2 = 0.95;
            let drawn = curves(&progress(&rows)).unwrap();
            // Columns with a tall line in the color of the mark: the axis, and the dashed line of
            // the left panel.
            let tall = |x: &u32| {
                (40..440).filter(|y| near(drawn.get_pixel(*x, *y), super::super::MUTED)).count()
                    > 100
            };
            let columns: Vec<u32> = (0..WIDTH / 2).filter(tall).collect();
            let (first, last) = (columns[0] as f64, columns[columns.len() - 1] as f64);
            let right = f64::from(WIDTH / 2 - 14);
            let expected = first + (right - first) * (best as f64 - 0.5) / 4.0;
            assert!(
                (last - expected).abs() < 4.0,
                "epoch {best}: {columns:?}, expected {expected}"
            );
        }
    }
}
