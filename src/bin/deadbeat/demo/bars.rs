//! The time that each hop has, drawn to scale.

use std::env;
use std::time::Duration;

/// How wide the whole budget is.
const WIDTH: usize = 50;

/// What bars are drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ink {
    pub(super) used: char,
    pub(super) left: char,
}

impl Ink {
    const BLOCKS: Self = Self { used: '█', left: '░' };
    const ASCII: Self = Self { used: '#', left: '.' };

    /// What the terminal can show, by its locale.
    pub(super) fn of_locale() -> Self {
        if cfg!(windows) {
            return Self::BLOCKS;
        }
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        Self::named(&locale.unwrap_or_default())
    }

    fn named(locale: &str) -> Self {
        let locale = locale.to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::BLOCKS } else { Self::ASCII }
    }

    /// A bar from when somebody began until their time is up, on a scale that ends with `whole`: used until
    /// `ended`.
    pub(super) fn bar(
        self,
        whole: Duration,
        began: Duration,
        ended: Duration,
        up: Duration,
    ) -> String {
        let at = |time: Duration| {
            let whole = whole.as_nanos().max(1);
            let columns = (time.as_nanos() * WIDTH as u128 + whole / 2) / whole;
            usize::try_from(columns).map_or(WIDTH, |columns| columns.min(WIDTH))
        };
        let (began, ended, up) = (at(began), at(ended.min(up)), at(up));
        let mut bar: String = std::iter::repeat_n(' ', began).collect();
        bar.extend(std::iter::repeat_n(self.used, ended.saturating_sub(began)));
        bar.extend(std::iter::repeat_n(self.left, up.saturating_sub(ended.max(began))));
        let padding = WIDTH.saturating_sub(bar.chars().count());
        bar.extend(std::iter::repeat_n(' ', padding));
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bar_begins_and_ends_where_its_time_does() {
        let bar = Ink::ASCII.bar(500 * MS, 100 * MS, 300 * MS, 450 * MS);
        assert_eq!(bar, format!("{:10}{:#<20}{:.<15}{:5}", "", "", "", ""));
    }

    #[test]
    fn what_went_over_its_time_is_drawn_to_its_end() {
        let bar = Ink::ASCII.bar(500 * MS, Duration::ZERO, 900 * MS, 500 * MS);
        assert_eq!(bar, "#".repeat(50));
        let bar = Ink::ASCII.bar(500 * MS, 900 * MS, 900 * MS, 500 * MS);
        assert_eq!(bar, " ".repeat(50));
    }

    #[test]
    fn blocks_are_for_terminals_that_have_them() {
        assert_eq!(Ink::named("de_DE.UTF-8"), Ink::BLOCKS);
        assert_eq!(Ink::named("C.utf8"), Ink::BLOCKS);
        assert_eq!(Ink::named("C"), Ink::ASCII);
    }
}
