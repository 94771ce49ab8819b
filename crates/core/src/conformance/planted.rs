use super::*;
use crate::reference::Reference;
#[test]
fn the_reference_conforms() {
    let start = std::time::Instant::now();
    let report = run_cases(&Reference, Device::Cpu, small_cases());
    println!("{report} {:?}", start.elapsed());
    report.unwrap();
}
#[test]
fn whole() {
    let start = std::time::Instant::now();
    let report = run_cases(&Reference, Device::Cpu, whole_size_cases());
    println!("{report} {:?}", start.elapsed());
    report.unwrap();
}
