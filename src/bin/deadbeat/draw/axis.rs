//! Axes with marks of one's own; of powers of ten above all, drawn to linearly: values are exponents.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// An axis whose marks stand where they are told to, and at whose ends stands what is beyond them.
///
/// Of plotters' own ranges, those that take marks can't be labelled.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Axis {
    /// Shares of samples, from none to `nines` nines.
    pub(crate) fn nines(nines: f64) -> Self {
        let mut marks = vec![0.0, 2.0_f64.log10()];
        marks.extend(whole(&(1.0..nines)));
        Self { range: 0.0..nines, marks }
    }

    /// Marks where they are said to be.
    pub(crate) fn marked(range: Range<f64>, marks: Vec<f64>) -> Self {
        Self { range, marks }
    }

    /// A mark for every power of ten within `range`.
    pub(crate) fn decades(range: Range<f64>) -> Self {
        Self { marks: whole(&range).collect(), range }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        #[expect(clippy::cast_possible_truncation, reason = "within low and high")]
        let offset = (f64::from(high - low) * share.clamp(0.0, 1.0)).round() as i32;
        low + offset
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// The whole numbers within `range`, its end included.
fn whole(range: &Range<f64>) -> impl Iterator<Item = f64> + use<> {
    let Range { start, end } = *range;
    std::iter::successors(Some(start.ceil()), |number| Some(number + 1.0))
        .take_while(move |&number| number <= end)
}

/// `50 %`, `90 %`, `99 %`, then a digit more for every nine.
pub(crate) fn nines_label(nines: &f64) -> String {
    let percent = 100.0 - 10_f64.powf(2.0 - nines);
    #[expect(clippy::cast_possible_truncation, reason = "nines are few, and not negative")]
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

/// A power of ten in plain digits, in groups of three from five digits on.
pub(crate) fn power_label(power: &f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "decades are few, and `max` leaves none negative"
    )]
    let decimals = (-power).round().max(0.0) as usize;
    let plain = format!("{:.decimals$}", 10_f64.powf(*power));
    if decimals > 0 || plain.len() < 5 {
        return plain;
    }
    let mut grouped = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_labelled_with_as_many_nines_as_they_have() {
        let labels: Vec<_> =
            [0.0, 2.0_f64.log10(), 1.0, 2.0, 3.0, 4.0, 6.0].iter().map(nines_label).collect();
        assert_eq!(labels, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.9999 %"]);
    }

    #[test]
    fn lateness_is_labelled_in_plain_numbers() {
        let labels: Vec<_> =
            [-2.0, -1.0, 0.0, 2.0, 3.0, 4.0, 6.0, 7.0].iter().map(power_label).collect();
        assert_eq!(
            labels,
            ["0.01", "0.1", "1", "100", "1000", "10 000", "1 000 000", "10 000 000"]
        );
    }

    #[test]
    fn an_axis_reaches_from_end_to_end_in_either_direction() {
        let axis = Axis::decades(1.0..3.0);
        assert_eq!([1.0, 2.0, 3.0].map(|power| axis.map(&power, (0, 100))), [0, 50, 100]);
        assert_eq!([1.0, 2.0, 3.0].map(|power| axis.map(&power, (100, 0))), [100, 50, 0]);
        assert_eq!([0.9, 3.1].map(|power| axis.map(&power, (0, 100))), [0, 100]);
        assert_eq!(axis.marks, [1.0, 2.0, 3.0]);
    }
}
