pub fn broken() -> u32 {
    0
}
