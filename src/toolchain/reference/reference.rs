//! Generics, closures, traits, tables, floating point and formats.
#![no_std]

use core::fmt::{self, Write};

pub trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> &'static str {
        "shape"
    }
}

pub struct Circle(pub f64);
pub struct Rectangle {
    pub width: f64,
    pub height: f64,
}

impl Shape for Circle {
    fn area(&self) -> f64 {
        self.0 * self.0 * 3.25
    }
}

impl Shape for Rectangle {
    fn area(&self) -> f64 {
        self.width * self.height
    }
    fn name(&self) -> &'static str {
        "rectangle"
    }
}

static TABLE: [(f64, &str, [u32; 7]); 3] =
    [(0.1, "alpha", [1, 2, 3, 4, 5, 6, 7]), (2.5e-7, "beta", [7; 7]), (1e300, "gamma", [0; 7])];

fn fold<T: Copy, R>(items: &[T], start: R, step: impl Fn(R, T) -> R) -> R {
    let mut value = start;
    for item in items {
        value = step(value, *item);
    }
    value
}

#[no_mangle]
pub extern "C" fn reference(rounds: usize, scale: f32) -> f64 {
    let shapes: [&dyn Shape; 2] =
        [&Circle(f64::from(scale)), &Rectangle { width: 2.0, height: f64::from(scale) }];
    let (weight, name, counts) = TABLE[rounds % TABLE.len()];
    let sum = fold(&counts, 0_u32, |sum, count| sum.wrapping_mul(31).wrapping_add(count));
    let area: f64 = shapes.iter().map(|shape| shape.area() + shape.name().len() as f64).sum();
    area * weight + f64::from(sum) + name.bytes().map(f64::from).sum::<f64>()
}

pub fn describe(out: &mut dyn Write, shape: &dyn Shape) -> fmt::Result {
    match shape.area() {
        area if area > 1e6 => write!(out, "{}: large", shape.name()),
        area => write!(out, "{}: {area:.3}", shape.name()),
    }
}
