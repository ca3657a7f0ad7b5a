pub const NUMBER: u32 = 1;
