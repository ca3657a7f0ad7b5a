typedef struct { double weight; const char *name; int counts[7]; } entry;

static const entry table[] = {
    {0.1, "alpha", {1, 2, 3, 4, 5, 6, 7}},
    {2.5e-7, "beta", {7, 6, 5, 4, 3, 2, 1}},
    {1e300, "gamma", {0}},
};

static unsigned hash(const char *text) {
    unsigned value = 2166136261u;
    while (*text)
        value = (value ^ (unsigned char)*text++) * 16777619u;
    return value;
}

double reference(int rounds, float scale) {
    double total = 0;
    for (int i = 0; i < rounds; i++) {
        const entry *one = &table[i % 3];
        switch (hash(one->name) % 5) {
        case 0: total += one->weight * scale; break;
        case 1: total -= one->weight / 3.0; break;
        case 2: total = total * 1.0000001 + one->counts[i % 7]; break;
        default: total += __builtin_sqrt(one->weight + one->counts[i % 7]); break;
        }
    }
    return total;
}
