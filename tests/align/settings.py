"""Settings of a small alignment in fp32."""

from rec.config import PROJECTIONS, Align, Guards

SETTINGS = Align(
    loss="sigmoid",
    reference="previous",
    beta=0.1,
    label_smoothing=0.0,
    learning_rate=0.01,
    epochs=4,
    batch_size=2,
    gradient_accumulation=1,
    group_by_length=False,
    rank=4,
    alpha=8,
    dropout=0.0,
    target_modules=list(PROJECTIONS),
    warmup_share=0.0,
    max_length=64,
    precision="fp32",
    guards=Guards(),
)
