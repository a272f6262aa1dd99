"""What the package adds. The classes are named, not imported: they are imported only when they are used."""

from pathlib import Path

from recbole_lcrec import register_converter, register_encoder, register_model, register_quantizer

register_model(
    "MeanRec",
    "recbole_lcrec_example.mean_rec:MeanRec",
    defaults=Path(__file__).with_name("MeanRec.yaml"),
    text="the mean of the history's item vectors",
)
register_quantizer(
    "halves",
    "recbole_lcrec_example.halves:Halves",
    defaults={"halves_axis": 0},
    text="codes by rank along a principal axis",
)
register_encoder(
    "letters", "recbole_lcrec_example.letters:LETTERS", defaults={"letters_width": 64}, text="hashed runs of letters"
)
register_converter("weblog", "recbole_lcrec_example.weblog:WEBLOG", text="lines of time|user|item")
