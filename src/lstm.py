"""A bidirectional LSTM (Hochreiter and Schmidhuber 1997) that padding does not reach.

Shapes at line ends: B batch, S sequence, I inputs, H hidden units of a direction.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.nn.layer import rnns

from src.device_forms import target


class BidirectionalLSTM(nn.LSTM):
    """One layer in both directions; parameters are named and laid out as in PyTorch and `mindspore.nn.LSTM`.

    `nn.LSTM` itself would unroll the sequence when it is told the lengths: minutes of compilation on a CPU. It is not
    needed: forward, padding comes last, and backward it comes last too once each sequence is reversed by itself.

    Args:
        input_size: I.
        hidden_size: H, at most I.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size, bidirectional=True)
        if target() != ms.get_context("device_target"):  # by which nn.LSTM has chosen the kernel
            self.rnn = rnns._DynamicLSTMAscend() if target() == "Ascend" else rnns._DynamicLSTMCPUGPU()
            self.rnn.is_gpu = target() == "GPU"  # whose kernel takes the biases of input and state apart

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x [B,S,I] and mask int32 [B,S] (1 token, then 0 padding) to states [B,S,2H], undefined at padding."""
        steps = x.transpose(1, 0, 2)  # [S,B,I]
        lengths = mask.sum(1).astype(ms.int32)  # [B]
        forward = self.run(steps, 0)
        backward = self.reverse_sequence(self.run(self.reverse_sequence(steps, lengths), 1), lengths)
        return ops.concat((forward, backward), 2).transpose(1, 0, 2)

    def run(self, steps: Tensor, direction: int) -> Tensor:
        """States [S,B,H] of one direction for inputs [S,B,I], from zero."""
        zeros = ops.zeros_like(steps[0, :, :self.hidden_size])  # [B,H], for any batch
        states, _ = self.rnn(steps, (zeros, zeros), None, self.w_ih_list[direction], self.w_hh_list[direction],
                             self.b_ih_list[direction], self.b_hh_list[direction])
        return states
