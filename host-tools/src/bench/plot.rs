//! The figures of a benchmark as SVG and PNG: accuracy task by task, and accuracy by prompt length.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Spread, counted, learns_at_once, short_name};
use super::results::RunResult;

/// Colours that are distinguishable with colour blindness: those of Okabe and Ito without yellow,
/// which is lost on white, then four of Paul Tol.
const PALETTE: [u32; 11] = [
    0x00_72_b2, 0xd5_5e_00, 0x00_9e_73, 0xcc_79_a7, 0x00_00_00, 0x56_b4_e9, 0xe6_9f_00, 0x88_22_55,
    0x99_99_33, 0x33_22_88, 0x82_82_82,
];
/// Number of shapes of marks. With the colours, they distinguish 55 lines.
const MARKS: usize = 5;
/// Size of a panel in pixels; a figure of one panel is wider.
const PANEL: (u32, u32) = (400, 450);
/// Least width of all panels together in pixels.
const LEAST_WIDTH: u32 = 640;
/// Height of an entry of the legend in pixels.
const ENTRY: i32 = 26;
/// Length of a line in the legend in pixels.
const SAMPLE: i32 = 34;
/// Font family of all text: viewers of SVG have one, bitmaps get Noto Sans.
const FONT: &str = "sans-serif";

/// A drawing area, in pixels.
type Area<D> = DrawingArea<D, Shift>;
/// A drawing area, in the coordinates of a panel.
type Chart<'a, D> = ChartContext<'a, D, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// Result of drawing on a backend.
type Drawn<D> = Result<(), DrawingAreaErrorKind<<D as DrawingBackend>::ErrorType>>;
/// Runs by data set and scenario, then by number of tasks.
type Scenes<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<usize, Vec<&'a RunResult>>>;

/// Rows of panels that share one legend.
struct Figure {
    rows: Vec<Row>,
    /// Names of the lines.
    legend: Vec<String>,
    /// Titles of the axes, across and up.
    titles: [&'static str; 2],
    /// True to draw deviations as bars at each point, false as a band along the line.
    bars: bool,
}

/// Panels that share a title and the range of accuracies.
struct Row {
    title: String,
    panels: Vec<Panel>,
}

/// One plot.
struct Panel {
    caption: String,
    /// Range of the axis across.
    x: Range<f64>,
    curves: Vec<Curve>,
}

/// One line of a panel.
struct Curve {
    /// Index into the legend; decides colour and mark.
    entry: usize,
    /// True for a constant level over the whole panel, drawn dashed.
    level: bool,
    /// Accuracies in percent.
    points: Vec<(f64, Spread)>,
}

/// Writes the figures that the runs have data for, and returns the paths of the files.
pub(crate) fn write_all(runs: &[RunResult], dir: &Path) -> Result<Vec<PathBuf>> {
    plotters::style::register_font(FONT, FontStyle::Normal, notosans::REGULAR_TTF)
        .map_err(|_| anyhow!("the font for plots cannot be read"))?;
    let mut written = Vec::new();
    for (name, figure) in [("trajectory", trajectory(runs)), ("ablation", ablation(runs))] {
        let Some(figure) = figure else { continue };
        let svg = dir.join(format!("{name}.svg"));
        let png = dir.join(format!("{name}.png"));
        let failed = |path: &Path| format!("{}: cannot be drawn", path.display());
        draw(&SVGBackend::new(&svg, figure.size()).into_drawing_area(), &figure)
            .with_context(|| failed(&svg))?;
        draw(&BitMapBackend::new(&png, figure.size()).into_drawing_area(), &figure)
            .with_context(|| failed(&png))?;
        written.extend([svg, png]);
    }
    Ok(written)
}

/// Groups runs by data set and scenario, then by number of tasks, in the order of names and
/// numbers.
fn scenes<'a>(runs: impl Iterator<Item = &'a RunResult>) -> Scenes<'a> {
    let mut scenes = Scenes::new();
    for run in runs {
        let scene = scenes.entry((&run.dataset, &run.scenario)).or_default();
        scene.entry(run.tasks).or_default().push(run);
    }
    scenes
}

/// Builds the figure of accuracy after each task: a row for each data set and scenario, a panel for
/// each number of tasks.
fn trajectory(runs: &[RunResult]) -> Option<Figure> {
    let full = || runs.iter().filter(|run| run.ablation.is_empty());
    let names: BTreeSet<&str> = full().map(|run| run.method.as_str()).collect();
    let mut methods: Vec<&str> = names.into_iter().collect();
    methods.sort_by_key(|&method| method != "fm-lora");
    let panel = |(tasks, runs): (usize, Vec<&RunResult>)| {
        let x = 0.5..tasks as f64 + 0.5;
        let curve = |(entry, method): (usize, &&str)| {
            let runs = runs.iter().copied().filter(|run| run.method == *method);
            course(entry, &runs.collect::<Vec<_>>(), &x)
        };
        let curves = methods.iter().enumerate().map(curve).filter(|c| !c.points.is_empty());
        Panel { caption: counted(tasks, "task"), curves: curves.collect(), x: x.clone() }
    };
    let row = |((data, scenario), panels): ((&str, &str), BTreeMap<_, _>)| Row {
        title: short_name(data, scenario),
        panels: panels.into_iter().map(panel).collect(),
    };
    let rows: Vec<Row> = scenes(full()).into_iter().map(row).collect();
    let legend = methods.iter().map(|&method| method.to_owned()).collect();
    let titles = ["tasks learnt", "accuracy on all seen, %"];
    (!rows.is_empty()).then_some(Figure { rows, legend, titles, bars: false })
}

/// Builds the mean line of one method's runs; a level if the method learns all tasks at once.
fn course(entry: usize, runs: &[&RunResult], x: &Range<f64>) -> Curve {
    let courses: Vec<Vec<f64>> = runs.iter().map(|run| run.trajectory()).collect();
    let level = runs.iter().any(|run| learns_at_once(run));
    let after = |accuracy: &dyn Fn(&Vec<f64>) -> Option<f64>| {
        let values: Vec<f64> = courses.iter().filter_map(accuracy).map(|a| 100.0 * a).collect();
        Spread::of(&values)
    };
    let points = if level {
        let last = after(&|course| course.last().copied());
        last.into_iter().flat_map(|spread| [(x.start, spread), (x.end, spread)]).collect()
    } else {
        let tasks = courses.iter().map(Vec::len).max().unwrap_or(0);
        let point = |t: usize| Some(((t + 1) as f64, after(&|course| course.get(t).copied())?));
        (0..tasks).filter_map(point).collect()
    };
    Curve { entry, level, points }
}

/// Builds the figure of last accuracy by prompt length: a row for each other ablation that is
/// combined with the length, a panel for each data set and scenario with two lengths or more.
fn ablation(runs: &[RunResult]) -> Option<Figure> {
    let mut by_rest: BTreeMap<&str, Vec<&RunResult>> = BTreeMap::new();
    for (run, (rest, _)) in runs.iter().filter_map(|run| Some((run, prompt_length(run)?))) {
        by_rest.entry(rest).or_default().push(run);
    }
    let all = || by_rest.values().flatten();
    let tasks: Vec<usize> =
        all().map(|run| run.tasks).collect::<BTreeSet<_>>().into_iter().collect();
    let row = |(rest, runs): (&&str, &Vec<&RunResult>)| Row {
        title: format!("fm-lora by prompt length{}{rest}", if rest.is_empty() { "" } else { ", " }),
        panels: scenes(runs.iter().copied()).iter().filter_map(|s| lengths(s, &tasks)).collect(),
    };
    let rows: Vec<Row> = by_rest.iter().map(row).filter(|row| !row.panels.is_empty()).collect();
    let legend = tasks.iter().map(|&n| counted(n, "task")).collect();
    let titles = ["prompt tokens", "accuracy after the last task, %"];
    (!rows.is_empty()).then_some(Figure { rows, legend, titles, bars: true })
}

/// Builds a panel with a line for each number of tasks; `None` for a single length.
fn lengths(
    scene: (&(&str, &str), &BTreeMap<usize, Vec<&RunResult>>),
    tasks: &[usize],
) -> Option<Panel> {
    let (&(data, scenario), by_tasks) = scene;
    let length = |run: &&RunResult| Some(prompt_length(run)?.1);
    let lengths: BTreeSet<u32> = by_tasks.values().flatten().filter_map(length).collect();
    let longest = f64::from(*lengths.last().filter(|_| lengths.len() > 1)?);
    let curve = |(entry, n)| Some(by_length(entry, by_tasks.get(n)?));
    Some(Panel {
        caption: short_name(data, scenario),
        x: -0.05 * longest..1.05 * longest,
        curves: tasks.iter().enumerate().filter_map(curve).collect(),
    })
}

/// Builds the line of last accuracies over prompt lengths.
fn by_length(entry: usize, runs: &[&RunResult]) -> Curve {
    let mut lengths: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (run, (_, length)) in runs.iter().filter_map(|run| Some((run, prompt_length(run)?))) {
        lengths.entry(length).or_default().push(100.0 * run.acc);
    }
    let point = |(&m, accs): (&u32, &Vec<f64>)| Some((f64::from(m), Spread::of(accs)?));
    Curve { entry, level: false, points: lengths.iter().filter_map(point).collect() }
}

/// Parses the other ablations and the prompt length of a run: `no DRS+m=8` is no DRS and 8 prompt
/// tokens. `None` for other ablations and methods, which have no length.
fn prompt_length(run: &RunResult) -> Option<(&str, u32)> {
    let ablation = Some(run.ablation.as_str()).filter(|_| run.method == "fm-lora")?;
    let (rest, last) = ablation.rsplit_once('+').unwrap_or(("", ablation));
    Some((rest, last.strip_prefix("m=")?.parse().ok()?))
}

impl Figure {
    /// Returns the number of panels in the longest row.
    fn columns(&self) -> usize {
        self.rows.iter().map(|row| row.panels.len()).max().unwrap_or(1).max(1)
    }

    /// Returns the width of the longest entry of the legend in pixels, from the usual width of
    /// letters.
    fn legend_width(&self) -> u32 {
        let letters = self.legend.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        SAMPLE as u32 + 30 + 9 * letters as u32
    }

    /// Returns width and height in pixels.
    fn size(&self) -> (u32, u32) {
        let width = (self.columns() as u32 * PANEL.0).max(LEAST_WIDTH);
        let legend = (self.legend.len() as u32 + 3) * ENTRY as u32;
        (width + self.legend_width(), (self.rows.len() as u32 * PANEL.1).max(legend))
    }
}

impl Row {
    /// Returns the lines of all panels.
    fn curves(&self) -> impl Iterator<Item = &Curve> {
        self.panels.iter().flat_map(|panel| &panel.curves)
    }

    /// Returns the title, with a note on deviations if there are several orders.
    fn heading(&self) -> String {
        let several = self.curves().flat_map(|c| &c.points).any(|(_, s)| s.deviation.is_some());
        let suffix = if several { ": mean ± standard deviation over orders" } else { "" };
        format!("{}{suffix}", self.title)
    }

    /// Returns the range of accuracies around all lines in whole tens, so that the panels of a row
    /// compare by eye.
    fn accuracies(&self) -> Range<f64> {
        let bounds = || self.curves().flat_map(|c| &c.points).map(|(_, spread)| spread.bounds());
        let low = bounds().map(|(low, _)| low).fold(100.0, f64::min);
        let high = bounds().map(|(_, high)| high).fold(0.0, f64::max);
        let low = ((low - 1.0) / 10.0).floor().max(0.0) * 10.0;
        low..(((high + 1.0) / 10.0).ceil() * 10.0).min(100.0).max(low + 10.0)
    }
}

/// Draws a figure and writes it.
fn draw<D: DrawingBackend>(root: &Area<D>, figure: &Figure) -> Drawn<D> {
    root.fill(&WHITE)?;
    let width = figure.size().0 - figure.legend_width();
    let (panels, legend) = root.margin(10, 0, 0, 0).split_horizontally(width);
    for (row, area) in figure.rows.iter().zip(panels.split_evenly((figure.rows.len(), 1))) {
        let area = area.titled(&row.heading(), (FONT, 22))?;
        for (panel, area) in row.panels.iter().zip(area.split_evenly((1, figure.columns()))) {
            draw_panel(&area, figure, panel, row.accuracies())?;
        }
    }
    draw_legend(&legend, figure)?;
    root.present()
}

/// Draws the axes and lines of a panel, with deviations beneath all lines.
fn draw_panel<D: DrawingBackend>(
    area: &Area<D>,
    figure: &Figure,
    panel: &Panel,
    accuracies: Range<f64>,
) -> Drawn<D> {
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.caption, (FONT, 18))
        .margin(10)
        .x_label_area_size(48)
        .y_label_area_size(58)
        .build_cartesian_2d(panel.x.clone(), accuracies)?;
    let whole = |x: &f64| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(10)
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .x_desc(figure.titles[0])
        .y_desc(figure.titles[1])
        .draw()?;
    let mut curves = panel.curves.iter();
    curves.clone().try_for_each(|curve| draw_spread(&mut chart, figure.bars, curve))?;
    curves.try_for_each(|curve| draw_line(&mut chart, curve))
}

/// Draws the deviations around a line; nothing for a single order.
fn draw_spread<D: DrawingBackend>(chart: &mut Chart<'_, D>, bars: bool, curve: &Curve) -> Drawn<D> {
    if curve.points.iter().all(|(_, spread)| spread.deviation.is_none()) {
        return Ok(());
    }
    let colour = colour(curve.entry);
    let bounds = |spread: Spread| (spread.bounds().0.max(0.0), spread.bounds().1.min(100.0));
    if bars {
        let cap = (chart.x_range().end - chart.x_range().start) / 80.0;
        let bar = |&(x, spread): &(f64, Spread)| {
            let (low, high) = bounds(spread);
            let end = |y: f64| [(x, y), (x - cap, y), (x + cap, y), (x, y)];
            PathElement::new([end(low), end(high)].concat(), colour)
        };
        chart.draw_series(curve.points.iter().map(bar)).map(drop)
    } else {
        let low = curve.points.iter().map(|&(x, spread)| (x, bounds(spread).0));
        let high = curve.points.iter().rev().map(|&(x, spread)| (x, bounds(spread).1));
        let band = Polygon::new(low.chain(high).collect::<Vec<_>>(), colour.mix(0.15));
        chart.draw_series([band]).map(drop)
    }
}

/// Draws one line with its marks.
fn draw_line<D: DrawingBackend>(chart: &mut Chart<'_, D>, curve: &Curve) -> Drawn<D> {
    let line = colour(curve.entry).stroke_width(2);
    let points = curve.points.iter().map(|&(x, spread)| (x, spread.mean));
    if curve.level {
        return chart.draw_series(DashedLineSeries::new(points, 8, 5, line)).map(drop);
    }
    chart.draw_series(LineSeries::new(points.clone(), line))?;
    let area = chart.plotting_area().use_screen_coord();
    points.map(|point| chart.backend_coord(&point)).try_for_each(|at| mark(&area, at, curve.entry))
}

/// Draws a sample of each line with its name.
fn draw_legend<D: DrawingBackend>(area: &Area<D>, figure: &Figure) -> Drawn<D> {
    let curves = || figure.rows.iter().flat_map(Row::curves);
    for ((entry, label), y) in figure.legend.iter().enumerate().zip((2..).map(|n| n * ENTRY)) {
        let from = (0, y);
        let to = (SAMPLE, y);
        let line = colour(entry).stroke_width(2);
        if curves().any(|curve| curve.level && curve.entry == entry) {
            area.draw(&DashedPathElement::new([from, to], 8, 5, line))?;
        } else {
            area.draw(&PathElement::new([from, to], line))?;
            mark(area, (SAMPLE / 2, y), entry)?;
        }
        let style = (FONT, 16).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(label.as_str(), (SAMPLE + 8, y), style))?;
    }
    Ok(())
}

/// Draws the mark of an entry of the legend.
fn mark<D: DrawingBackend>(area: &Area<D>, (x, y): (i32, i32), entry: usize) -> Drawn<D> {
    let fill = colour(entry).filled();
    match entry % MARKS {
        0 => area.draw(&Circle::new((x, y), 4, fill)),
        1 => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], fill)),
        2 => area.draw(&TriangleMarker::new((x, y), 5, fill)),
        3 => area.draw(&Polygon::new([(x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5)], fill)),
        _ => area.draw(&Cross::new((x, y), 4, colour(entry).stroke_width(2))),
    }
}

/// Returns the colour of an entry of the legend.
fn colour(entry: usize) -> RGBColor {
    let [_, red, green, blue] = PALETTE[entry % PALETTE.len()].to_be_bytes();
    RGBColor(red, green, blue)
}
