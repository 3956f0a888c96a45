//! What the figures were measured on. Timer precision is a property of the machine first.

use serde::Serialize;
use std::fmt;

/// The machine and the build; `None` where the system doesn't tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BoxInfo {
    cpu: Option<String>,
    cores: Option<usize>,
    kernel: Option<String>,
    clocksource: Option<String>,
    timer_slack_ns: Option<u64>,
    hypervisor: Option<String>,
    governor: Option<String>,
    idle_driver: Option<String>,
    rustc: String,
    deadbeat: &'static str,
}

impl BoxInfo {
    /// Asks the system.
    pub(crate) fn read() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            cpuinfo.as_ref()?.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim_end() == name).then(|| value.trim().to_owned())
            })
        };
        Self {
            cpu: field("model name"),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            kernel: read("/proc/sys/kernel/osrelease"),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            timer_slack_ns: timer_slack_ns(),
            hypervisor: hypervisor(field("flags").as_deref()),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            idle_driver: read("/sys/devices/system/cpu/cpuidle/current_driver"),
            rustc: rustc_version_runtime::version().to_string(),
            deadbeat: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// One line for people.
impl fmt::Display for BoxInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cpu.as_deref().unwrap_or("unknown CPU"))?;
        if let Some(cores) = self.cores {
            write!(f, ", {cores} cores")?;
        }
        let named = [
            ("kernel", &self.kernel),
            ("clocksource", &self.clocksource),
            ("hypervisor", &self.hypervisor),
            ("governor", &self.governor),
            ("idle driver", &self.idle_driver),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(slack_ns) = self.timer_slack_ns {
            write!(f, ", timer slack {slack_ns} ns")?;
        }
        write!(f, ", rustc {}, deadbeat {}", self.rustc, self.deadbeat)
    }
}

/// `none` on metal, the name if there is one, `unnamed` if all that is known is that there is one.
fn hypervisor(cpu_flags: Option<&str>) -> Option<String> {
    let inside = cpu_flags?.split_whitespace().any(|flag| flag == "hypervisor");
    if !inside {
        return Some("none".into());
    }
    let vendor = read("/sys/class/dmi/id/sys_vendor").map(|vendor| {
        let product = read("/sys/class/dmi/id/product_name").unwrap_or_default();
        format!("{vendor} {product}").trim_end().to_owned()
    });
    Some(read("/sys/hypervisor/type").or(vendor).unwrap_or_else(|| "unnamed".into()))
}

#[cfg(target_os = "linux")]
fn timer_slack_ns() -> Option<u64> {
    rustix::thread::current_timer_slack().ok()
}

#[cfg(not(target_os = "linux"))]
fn timer_slack_ns() -> Option<u64> {
    None
}

/// A file of one line, which on other systems than Linux isn't there.
fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hypervisor_shows_in_the_flags_of_the_cpu() {
        assert_eq!(hypervisor(None), None);
        assert_eq!(hypervisor(Some("fpu tsc")).as_deref(), Some("none"));
        assert_ne!(hypervisor(Some("fpu hypervisor tsc")).as_deref(), Some("none"));
    }
}
