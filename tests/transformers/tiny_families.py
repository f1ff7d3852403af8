"""Tiny random models of each family of transformers: configuration, tokenizer and processor made in code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

SIZE = 32
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": 8,
}
QUARTERS = {"height": SIZE, "width": SIZE}


def byte_tokenizer(
    *special: str, around: tuple[str, str] | None = None, ids: dict[str, int] | None = None, **roles: Any
) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer with one token for each byte, after the special ones.

    :param around: tokens that it writes before and after a text.
    :param ids: ids of tokens that differ from their place.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    vocabulary |= ids or {}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if around:
        named = [(token, vocabulary[token]) for token in around if token]
        template = " ".join([around[0], "$A", around[1]]).strip()
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=list(special), padding_side="right", **roles
    )


def save(folder: Path, model: Any, processor: Any) -> Path:
    """Write a model and its processor with random weights that matter: no bias is zero, no output flat."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    tokenizer = byte_tokenizer(
        "<|startoftext|>",
        "<|endoftext|>",
        around=("<|startoftext|>", "<|endoftext|>"),
        pad_token="<|endoftext|>",
        model_max_length=77,
    )
    text = {**_tower(TEXT), "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=QUARTERS)
    return save(folder, transformers.CLIPModel(config), transformers.CLIPProcessor(images, tokenizer))


def siglip(folder: Path) -> Path:
    tokenizer = byte_tokenizer("<pad>", "<eos>", around=("", "<eos>"), pad_token="<pad>", model_max_length=64)
    text = {
        **_tower(TEXT),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": 32,
    }
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    images = transformers.SiglipImageProcessor(size=QUARTERS)
    return save(folder, transformers.SiglipModel(config), transformers.SiglipProcessor(images, tokenizer))


def siglip2(folder: Path) -> Path:
    tokenizer = byte_tokenizer(
        "<pad>", "<eos>", "<bos>", "<unk>", around=("", "<eos>"), pad_token="<pad>", model_max_length=64
    )
    text = {
        **_tower(TEXT),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "projection_size": 32,
    }
    vision = {**_tower(VISION), "num_patches": 16, "patch_size": 8}
    del vision["image_size"]
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    images = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    return save(folder, transformers.Siglip2Model(config), transformers.Siglip2Processor(images, tokenizer))


def _bert(*extra: str) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of BERT's kind."""
    return byte_tokenizer(
        "[PAD]",
        "[CLS]",
        "[SEP]",
        *extra,
        around=("[CLS]", "[SEP]"),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
    )


def _blip(kind: Any, folder: Path) -> Path:
    tokenizer = _bert("[DEC]", "[ENC]")
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": 3,
        "sep_token_id": 2,
        "pad_token_id": 0,
    }
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=16)
    images = transformers.BlipImageProcessor(size=QUARTERS)
    return save(folder, kind(config), transformers.BlipProcessor(images, tokenizer))


def blip_retrieval(folder: Path) -> Path:
    return _blip(transformers.BlipForImageTextRetrieval, folder)


def blip_captioning(folder: Path) -> Path:
    return _blip(transformers.BlipForConditionalGeneration, folder)


def blip2(folder: Path) -> Path:
    tokenizer = _bert()
    qformer = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "cross_attention_frequency": 1,
        "use_qformer_text_input": True,
    }
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=qformer, num_query_tokens=4, image_text_hidden_size=16
    )
    images = transformers.BlipImageProcessor(size=QUARTERS)
    processor = transformers.Blip2Processor(images, tokenizer, num_query_tokens=4)
    return save(folder, transformers.Blip2ForImageTextRetrieval(config), processor)


LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TURNS = (
    "{{% for m in messages %}}<|im_start|>{{{{ m['role'] }}}}\n"
    "{{% for c in m['content'] %}}{{% if c['type'] == 'image' %}}{image}{{% else %}}{{{{ c['text'] }}}}{{% endif %}}"
    "{{% endfor %}}<|im_end|>\n{{% endfor %}}{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)


def llava(folder: Path) -> Path:
    tokenizer = byte_tokenizer(
        "<s>",
        "</s>",
        "<pad>",
        "<image>",
        around=("<s>", ""),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_tower(VISION), projection_dim=16),
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=3,
        vision_feature_layer=-2,
    )
    images = transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=QUARTERS)
    processor = transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return save(folder, transformers.LlavaForConditionalGeneration(config), processor)


def paligemma(folder: Path) -> Path:
    tokenizer = byte_tokenizer(
        "<pad>", "<eos>", "<bos>", "<image>", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    config = transformers.PaliGemmaConfig(
        vision_config=_siglip_tower(),
        text_config=transformers.GemmaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_index=3,
        projection_dim=32,
        hidden_size=32,
    )
    images = transformers.SiglipImageProcessor(size=QUARTERS)
    images.image_seq_length = 16
    processor = transformers.PaliGemmaProcessor(images, tokenizer)
    return save(folder, transformers.PaliGemmaForConditionalGeneration(config), processor)


def gemma3(folder: Path) -> Path:
    special = ("<pad>", "<eos>", "<bos>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")
    tokenizer = byte_tokenizer(
        *special,
        "<|im_start|>",
        "<|im_end|>",
        around=("<bos>", ""),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    config = transformers.Gemma3Config(
        vision_config=_siglip_tower(),
        text_config=transformers.Gemma3TextConfig(**TEXT, vocab_size=len(tokenizer), sliding_window=512),
        mm_tokens_per_image=4,
        boi_token_index=3,
        eoi_token_index=4,
        image_token_index=5,
    )
    images = transformers.Gemma3ImageProcessor(size=QUARTERS)
    processor = transformers.Gemma3Processor(
        images,
        tokenizer,
        image_seq_length=4,
        chat_template="<bos>" + TURNS.format(image="<start_of_image>"),
    )
    return save(folder, transformers.Gemma3ForConditionalGeneration(config), processor)


def qwen2_5_vl(folder: Path) -> Path:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer = byte_tokenizer(
        *special, "<|image_pad|>", "<|video_pad|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    text = {**TEXT, "vocab_size": len(tokenizer)}
    del text["head_dim"]
    config = transformers.Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    sizes = {"patch_size": 8, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**sizes),
        chat_template=TURNS.format(image="<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return save(folder, transformers.Qwen2_5_VLForConditionalGeneration(config), processor)


def _idefics3(kind: str, folder: Path) -> Path:
    rows = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer = byte_tokenizer(
        "<pad>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        "<|im_end|>",
        *rows,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    )
    config = getattr(transformers, f"{kind}Config")(
        vision_config={**_tower(VISION), "max_image_size": {"longest_edge": SIZE}},
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer), pad_token_id=0),
        image_token_id=3,
        scale_factor=2,
        pad_token_id=0,
    )
    edge = {"longest_edge": SIZE}
    images = getattr(transformers, f"{kind}ImageProcessor")(size=edge, max_image_size=edge)
    video = [transformers.SmolVLMVideoProcessor(size=edge, max_image_size=edge)] if kind == "SmolVLM" else []
    processor = getattr(transformers, f"{kind}Processor")(
        images, tokenizer, *video, image_seq_len=4, chat_template=TURNS.format(image="<image>")
    )
    return save(folder, getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor)


def idefics3(folder: Path) -> Path:
    return _idefics3("Idefics3", folder)


def smolvlm(folder: Path) -> Path:
    return _idefics3("SmolVLM", folder)


def _siglip_tower() -> Any:
    return transformers.SiglipVisionConfig(**_tower(VISION), vision_use_head=False, projection_dim=32)


def _tower(config: dict[str, int]) -> dict[str, int]:
    """Return the settings that a two-tower model's parts know."""
    return {name: value for name, value in config.items() if name not in ("num_key_value_heads", "head_dim")}


def owlv2(folder: Path) -> Path:
    """A detector; not a guidance model."""
    tokenizer = byte_tokenizer(
        "!",
        "<|startoftext|>",
        "<|endoftext|>",
        around=("<|startoftext|>", "<|endoftext|>"),
        pad_token="!",
        model_max_length=64,
    )
    text = {**_tower(TEXT), "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.Owlv2Config(text_config=text, vision_config=VISION, projection_dim=32)
    images = transformers.Owlv2ImageProcessor(size=QUARTERS)
    processor = transformers.Owlv2Processor(images, tokenizer)
    return save(folder, transformers.Owlv2ForObjectDetection(config), processor)


def grounding_dino(folder: Path) -> Path:
    """A detector; its class expects the ids of BERT for [CLS], [SEP] and the marks that separate phrases."""
    known = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    tokenizer = byte_tokenizer(
        "[PAD]",
        "[CLS]",
        "[SEP]",
        around=("[CLS]", "[SEP]"),
        ids={**known, chr(0x120): 1030, chr(0x121): 1031, "a": 1032, "b": 1033, "c": 1034},
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    text = {**_tower(TEXT), "vocab_size": 1100, "max_position_embeddings": 64}
    sizes = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32)
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=SIZE,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=2,
            out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(**text),
        num_queries=10,
        num_feature_levels=3,
        encoder_layers=1,
        decoder_layers=2,
        max_text_len=64,
        disable_custom_kernels=True,
        **sizes,
        **heads,
    )
    images = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 2 * SIZE, "longest_edge": 4 * SIZE}
    )
    processor = transformers.GroundingDinoProcessor(images, tokenizer)
    return save(folder, transformers.GroundingDinoForObjectDetection(config), processor)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "clip": clip,
    "siglip": siglip,
    "siglip2": siglip2,
    "blip-retrieval": blip_retrieval,
    "blip-captioning": blip_captioning,
    "blip2-retrieval": blip2,
    "llava": llava,
    "paligemma": paligemma,
    "gemma3": gemma3,
    "qwen2.5-vl": qwen2_5_vl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
}
"""Name of a family -> what writes a tiny random model of it into a folder."""

DETECTORS: dict[str, Callable[[Path], Path]] = {"owlv2": owlv2, "grounding-dino": grounding_dino}
"""The same for models that find objects and guide nothing."""


def make(family: str, folder: Path) -> Path:
    """Write a tiny random model of a family or a detector into a folder; the same numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {**FAMILIES, **DETECTORS}[family](folder)
