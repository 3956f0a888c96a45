//! Pictures: files of either format, and what all of them look like.

mod axis;

pub(crate) use axis::{Axis, nines_label, power_label};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Where to draw; the name's end says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlotFile {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

/// What fills a file.
pub(crate) trait Page {
    /// Pixels, across and down.
    fn size(&self) -> (u32, u32);

    /// Draws on an area of that size, which is white.
    ///
    /// # Errors
    ///
    /// The area's.
    fn draw<B>(&self, area: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
    where
        B: DrawingBackend,
        B::ErrorType: 'static;
}

impl PlotFile {
    /// A file to draw to; `None` unless its name ends in `.svg` or `.png`.
    pub(crate) fn new(path: PathBuf) -> Option<Self> {
        let format = match path.extension()?.to_str()? {
            "svg" => Format::Svg,
            "png" => Format::Png,
            _ => return None,
        };
        Some(Self { path, format })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// The file's.
    pub(crate) fn draw(&self, page: &impl Page) -> Result<(), Box<dyn Error>> {
        // The machine may have no font; SVG names the family, and its viewer finds one.
        register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
            .map_err(|_| "the font of the plot can't be read")?;
        match self.format {
            Format::Svg => fill(page, SVGBackend::new(&self.path, page.size())),
            Format::Png => fill(page, BitMapBackend::new(&self.path, page.size())),
        }
        .map_err(|error| format!("{}: {error}", self.path.display()).into())
    }
}

fn fill<B>(page: &impl Page, backend: B) -> Result<(), Box<dyn Error>>
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    page.draw(&area)?;
    area.present()?;
    Ok(())
}

/// How wide a page is.
pub(crate) const WIDTH: u32 = 1500;
/// How high its head is.
pub(crate) const HEAD: u32 = 76;
pub(crate) const GREY: RGBColor = RGBColor(90, 90, 90);

/// Draws the head: what it is about, how it was set up, and where. Returns what is below it.
///
/// # Errors
///
/// The area's.
pub(crate) fn head<B>(
    area: &DrawingArea<B, Shift>,
    heading: &str,
    setup: &str,
    machine: &str,
) -> Result<DrawingArea<B, Shift>, Box<dyn Error>>
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    let small = ("sans-serif", 15).into_font().color(&GREY);
    area.draw_text(heading, &("sans-serif", 24).into_font().into(), (20, 10))?;
    area.draw_text(setup, &small, (210, 16))?;
    area.draw_text(machine, &small, (20, 46))?;
    Ok(area.split_vertically(HEAD).1)
}

/// A chart with room for its caption and for the labels of its axes.
pub(crate) fn frame<'a, B: DrawingBackend>(
    area: &'a DrawingArea<B, Shift>,
    caption: &str,
) -> ChartBuilder<'a, 'static, B> {
    let mut chart = ChartBuilder::on(area);
    chart
        .margin(12)
        .margin_right(24)
        .caption(caption, ("sans-serif", 18))
        .x_label_area_size(44)
        .y_label_area_size(76);
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_end_in_a_known_format_can_be_drawn_to() {
        assert!(PlotFile::new("a.svg".into()).is_some());
        assert!(PlotFile::new("a.b/c.png".into()).is_some());
        for path in ["a.jpg", "svg", "", "a.svg.gz", ".png"] {
            assert_eq!(PlotFile::new(path.into()), None, "{path}");
        }
    }
}
