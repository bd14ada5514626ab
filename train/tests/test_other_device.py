"""Nothing is left on the CPU by accident: replies, masks and training steps on a second device, and the same there."""

import copy

import pytest
import torch
from other_device import There, other_device
from torch.utils.data import DataLoader

from evqa.models.messages import Message, PointOrBox, VideoPart
from unipixel import sft
from unipixel.inference.chat import UniPixelChat
from unipixel.model import lora
from unipixel.training import build
from unipixel.training.plan import plan_training


def test_the_other_device_computes_the_same_and_keeps_its_tensors_apart():
    torch.manual_seed(0)
    layer, numbers = torch.nn.Linear(3, 2), torch.randn(4, 3)
    layer(numbers).square().sum().backward()
    gradient = layer.weight.grad.clone()
    layer.zero_grad()
    with other_device() as device:
        layer.to(device)
        there = numbers.to(device)
        layer(there).square().sum().backward()
        assert isinstance(layer.weight, There)
        assert torch.equal(layer.weight.grad.cpu(), gradient)
        assert torch.zeros(2, device=there.device).device == device
        assert there[torch.tensor([1, 3])].cpu().equal(numbers[[1, 3]])
        assert (there * torch.tensor(2.0)).cpu().equal(numbers * 2)
        with pytest.raises(RuntimeError, match="tensors of two devices"):
            there + torch.ones(4, 3)
        with pytest.raises(RuntimeError, match="tensors of two devices"):
            layer(numbers)
        with pytest.raises(TypeError, match="copy it to the CPU"):
            there.numpy()
    assert type(there.cpu()) is torch.Tensor


def test_replies_and_masks_are_the_same_on_another_device(speaker, video, square):
    """Places as `<|ref|>`, regions as `<|mem|>`, words alone, all in one batch; and what is found from places."""
    chat = speaker("#")
    places = (PointOrBox((10, 20), second=0.0), PointOrBox((40, 15, 60, 30), second=2.0))
    conversations = [
        [Message("user", (VideoPart(video), "Where?"))],
        [Message("user", (VideoPart(video, prompts=places), "Are <|ref|> and <|ref|> one?"))],
        [Message("user", (VideoPart(video, regions=(square,)), "Where is [1]?"))],
        [Message("user", ("No video",))],
    ]
    replies, found = chat.generate_all(conversations), chat.segment_prompts(VideoPart(video, prompts=places))
    with torch.no_grad(), other_device() as device:
        chat.model.to(device)
        other = UniPixelChat(chat.model, chat.tokenizer, chat.reader.plan, decoding=chat.decoding)
        assert other.device == device
        theirs, their_find = other.generate_all(conversations), other.segment_prompts(VideoPart(video, prompts=places))
    for ours, reply in zip(replies, theirs, strict=True):
        assert reply.text == ours.text
        assert _tracks(reply.masks) == _tracks(ours.masks)
    assert any(reply.masks is not None and reply.masks.tracks[0].masks for reply in replies)
    assert _tracks(their_find) == _tracks(found)


def _tracks(masks):
    return None if masks is None else [track.masks for track in masks.tracks]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_is_the_same_on_another_device(tiny_checkpoint, squares, tmp_path, checkpointing):
    text = f"""tiny base --weights {tiny_checkpoint} --datasets {squares} 1 --num-frames 4 --mask-frames 2
    --per-device-batch-size 4 --global-batch 4 --max-steps 2 --rank 4 --alpha 8 --dropout 0 --trainable embedding
    seg sam2 --scope qkvo_all --loss.focal 4 --loss.dice 0.2 --loss.iou 0.2 --loss.objectness 0.2
    --tensorboard False --eval-data None --gradient-checkpointing {checkpointing} --out {tmp_path}"""
    job = plan_training(sft.parse(text.split()).config, 1)
    trainer = build.build_trainer(job, is_saving=False)
    trainer.args.optim = "adamw_torch"  # the fused one asks for a device that it knows
    trainer.current_gradient_accumulation_steps = 1
    batches = list(DataLoader(trainer.train_dataset, 4, sampler=trainer.order, collate_fn=trainer.data_collator))[:2]
    start = copy.deepcopy(trainer.trained.state_dict())
    here = _steps(trainer, batches)
    trainer.trained.load_state_dict(start)
    with other_device() as device:
        trainer.trained.to(device)
        lora.unwrap(trainer.trained).tie_weights()  # a device that is real moves weights in place
        trainer.optimizer = None
        trainer.args.__dict__["_setup_devices"] = trainer.accelerator.state.device = device
        there = _steps(trainer, batches)
    assert [step.keys() for step in there] == [step.keys() for step in here]
    for ours, theirs in zip(here, there, strict=True):
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=1e-3), name


def _steps(trainer, batches):
    """Two optimizer steps: what the log would say of their losses, and the norm of their gradients."""
    trainer.trained.train()
    trainer.create_optimizer()
    trainer.statistics.reset(0)
    rows = []
    for number, batch in enumerate(batches, 1):
        torch.manual_seed(number)
        loss = trainer.training_step(trainer.trained, dict(batch))
        norm = torch.nn.utils.clip_grad_norm_(trainer.trained.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        logged = trainer.statistics.log_entries(trainer.accelerator, number)
        parts = {name: value for name, value in logged.items() if name.startswith("loss")}
        rows.append({"loss": float(loss), "gradient": float(norm)} | parts)
    return rows
