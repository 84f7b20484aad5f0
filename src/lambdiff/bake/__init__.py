"""Turn a diffusers model into a model folder: files that an engine loads, compared with the original and hashed.

Never imports AWS or the client; apart from the diffusers engine, this is the only package that imports torch.

    bake.py               the public function, which lists the steps
    parameters.py         the types of its parameters, and the checks that need no model
    catalogue.py          the models that have a name, each pinned to one commit
    sources.py            a catalogue name, hub id or path -> a local folder
    checkpoint.py         one .safetensors file -> a folder; what it is: families_by_keys.py, checkpoint_configs.py
    safetensors_file.py   the header of a file of weights, and its tensors
    clip_tokenizer.py     CLIP's tokenizer, which no checkpoint contains
    additions.py          LoRAs (lora.py), few-step weights (few_steps.py) and embeddings (embedding.py)
    pipeline_folder.py    read, check or copy a folder saved by diffusers
    complete_weights.py   every parameter is in the files, by their headers (empty_models.py)
    scheduler_config.py   the noise process and the default scheduler
    families.py           pipeline class -> the module that converts it (`stable_diffusion.py`)
    modules.py            load and trace torch modules
    convert.py            one torch module -> one OpenVINO model, compared with the original (rounding.py)
    graph_rewrites.py     same output, fewer operations
    quantization.py       eight-bit activations for the UNet, calibrated on generated images
    manifest_builder.py   the manifest; provenance.py: the notice, license and origin
    output_folder.py      write next to the destination, then move into place
"""
