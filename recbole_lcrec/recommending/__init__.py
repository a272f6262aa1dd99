from dataclasses import dataclass
from recbole_lcrec.experiment import load_experiment


@dataclass(frozen=True)
class Scored:
    item: str
    title: str
    score: float


class Recommender:
    @classmethod
    def load(cls, folder, **options):
        self = cls()
        self.e = load_experiment(folder, options)
        return self

    @property
    def items(self):
        return [str(t) for t in self.e.dataset.field2id_token[self.e.dataset.iid_field][1:]]

    def recommend(self, histories, k=10, unknown="error"):
        items, scores = self.e.recommend(histories, k)
        return [[Scored(i, i, s) for i, s in zip(a, b)] for a, b in zip(items, scores)]

    def about(self):
        return {"model": "LCRec", "dataset": "ml-100k"}
