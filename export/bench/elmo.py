"""Builds ELMo as published, under the encoder of GLUE's baseline: the DistilBERT paper's 180M.

Peters et al. 2018, arXiv:1802.05365, and its configuration "original" (elmo_2x4096_512_2048cnn_2xhighway): characters
by a CNN of seven widths and two highway layers, then two layers of LSTMs in both directions, 4096 cells projected
to 512. Its clipping of cells is left out: it costs next to nothing. The baseline: Wang et al. 2018, arXiv:1804.07461,
appendix: two layers of biLSTM, 1500 cells in each direction, the maximum over words; of the two sentences u and v,
[u; v; |u - v|; u * v] into a hidden layer of 512.
"""

import torch
from torch import Tensor, nn

CHARACTERS, CHARACTER_SIZE, WORD_LENGTH = 262, 16, 50
FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))  # width, count
CELLS, PROJECTION = 4096, 512
ENCODER_CELLS, HIDDEN = 1500, 512


class Highway(nn.Module):
    """Mixes its input with a layer over it. Shape: (words, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2 * width)

    def forward(self, states: Tensor) -> Tensor:
        proposal, gate = self.layer(states).chunk(2, dim=-1)
        share = torch.sigmoid(gate)
        mixed: Tensor = share * states + (1 - share) * torch.relu(proposal)
        return mixed


class Characters(nn.Module):
    """Makes a vector of each word's characters. Shapes: (words, 50) int64 to (words, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, CHARACTER_SIZE)
        self.filters = nn.ModuleList(nn.Conv1d(CHARACTER_SIZE, count, width) for width, count in FILTERS)
        total = sum(count for _, count in FILTERS)
        self.highways = nn.Sequential(Highway(total), Highway(total))
        self.projection = nn.Linear(total, PROJECTION)

    def forward(self, characters: Tensor) -> Tensor:
        states = self.embedding(characters).transpose(1, 2)
        parts = [torch.relu(convolution(states).amax(dim=-1)) for convolution in self.filters]
        vectors: Tensor = self.projection(self.highways(torch.cat(parts, dim=-1)))
        return vectors


class Elmo(nn.Module):
    """Reads a sentence in both directions, and mixes its three layers. Shapes: (words, 50) to (1, words, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = Characters()
        self.forward_layers, self.backward_layers = (
            nn.ModuleList(nn.LSTM(PROJECTION, CELLS, proj_size=PROJECTION, batch_first=True) for _ in range(2))
            for _ in range(2)
        )
        self.mixture = nn.Parameter(torch.zeros(3))

    def forward(self, characters: Tensor) -> Tensor:
        words = self.characters(characters)[None]
        layers = [torch.cat([words, words], dim=-1)]
        onward, back = words, words.flip(1)
        for number, (forward_layer, backward_layer) in enumerate(
            zip(self.forward_layers, self.backward_layers, strict=True)
        ):
            read_on, read_back = forward_layer(onward)[0], backward_layer(back)[0]
            # The second layer adds its input.
            onward, back = (read_on + onward, read_back + back) if number else (read_on, read_back)
            layers.append(torch.cat([onward, back.flip(1)], dim=-1))
        shares = self.mixture.softmax(0)
        return torch.stack([share * layer for share, layer in zip(shares, layers, strict=True)]).sum(0)


class ElmoPair(nn.Module):
    """Scores a pair of sentences, one after the other. Shapes: twice (words, 50) int64, to (1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.elmo = Elmo()
        self.encoder = nn.LSTM(2 * PROJECTION, ENCODER_CELLS, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8 * ENCODER_CELLS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        u, v = (self.encoder(self.elmo(characters))[0].amax(dim=1) for characters in (first, second))
        score: Tensor = self.head(torch.cat([u, v, (u - v).abs(), u * v], dim=-1))
        return score
