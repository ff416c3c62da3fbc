import pytest
import torch

from tests.training.models.test_reading import packed
from training.kernels.attention import SHORT, causal_attention, document_mask


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("time", [300, SHORT + 1])
def test_attention_to_long_rows_of_documents_is_that_to_each(time: int, window: int | None) -> None:
    lengths = [100, 170, time - 270]
    q, k, v = (torch.randn(1, h, time, 8, dtype=torch.float64) for h in (4, 2, 2))
    mask = document_mask(packed([lengths]), window, torch.float64)
    parts = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    alone = torch.cat([causal_attention(*part, window) for part in parts], dim=2)
    torch.testing.assert_close(causal_attention(q, k, v, window, mask), alone)
