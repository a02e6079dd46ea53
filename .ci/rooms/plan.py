"""Where everything goes. Names are keys; nothing here counts lines."""

# Old module (without the package) -> where what is not named below goes, as a path below src/itit_hf.
MODULES = {
    "adaptation": "models/adaptation",
    "archives": "data/archives",
    "auto_classes": "models/auto_classes",
    "captions": "data/captions",
    "checkpointing": "training/checkpointing",
    "configuration_itit": "models/configuration_itit",
    "contrastive": "rewards/dual_encoder",
    "cpu_kernels_itit": "models/cpu_kernels_itit",
    "cycle": "objectives/cycle",
    "cycle_generation": "pipelines/cycle_generation",
    "data": "data/streams",
    "editing": "pipelines/inpainting",
    "eval_data": "metrics/datasets",
    "filters": "examples/data_curation/filters",
    "folders": "data/folders",
    "generation_itit": "models/generation_itit",
    "hub": "hub/push",
    "image_features_itit": "models/layers_itit",
    "image_processing_itit": "models/image_loading_itit",
    "image_tokenization_itit": "models/image_tokenization_itit",
    "layers_itit": "models/layers_itit",
    "likelihood": "pipelines/scoring",
    "lora": "pipelines/lora",
    "losses": "objectives/losses",
    "masking": "masking",
    "metrics": "metrics",
    "metrics.captions": "metrics/captions",
    "metrics.coco_captions": "metrics/coco_captions",
    "metrics.pictures": "metrics/images",
    "metrics.retrieval": "metrics/retrieval",
    "modelcard": "hub/model_card",
    "modeling_itit": "models/modeling_itit",
    "modeling_outputs_itit": "models/modeling_outputs_itit",
    "monitoring": "training/monitoring",
    "objectives": "objectives/objectives",
    "optimization": "training/optimization",
    "pair_weights": "examples/data_curation/pair_weights",
    "passes": "objectives/forward",
    "perceptual_loss": "pretraining/perceptual_loss",
    "pipeline_inputs": "pipelines/pipeline_utils",
    "pipeline_itit": "pipelines/pipeline_itit",
    "placement": "models/placement_itit",
    "processing_itit": "models/processing_itit",
    "readers": "data/readers",
    "recipes": "training/recipes",
    "replay": "objectives/caching",
    "reward_trainer": "training/reward_trainer",
    "rewards": "rewards/captions",
    "row_store": "data/row_store",
    "safe_loading": "pipelines/safe_loading",
    "safe_trainer": "training/resilient_trainer",
    "sampling": "decoding/sampling",
    "scheduling_itit": "decoding/scheduling_itit",
    "scorers": "rewards/dual_encoder",
    "shared_prefix": "models/cache_itit",
    "sources": "data/loading",
    "span_corruption": "pretraining/text_pretraining",
    "straight_through": "models/straight_through_itit",
    "text_features": "objectives/caching",
    "text_files": "data/text_files",
    "trainer": "training/trainer",
    "training_args": "training/training_args",
    "visualization": "training/sample_logging",
    "vocabulary_itit": "models/vocabulary_itit",
    "weight_files": "models/weight_files_itit",
    "vq_evaluation": "pretraining/vq_evaluation",
    "vq_trainer": "pretraining/vq_trainer",
    "call_state": "pipelines/call_state",
    "forward_inputs_itit": "models/forward_inputs_itit",
    "vq_training": "pretraining/vq_training",
    "watching": "training/sample_logging",
}

# What leaves its module for another file than the one above. Private helpers that only these use follow them.
LEAVES = {
    "masking": {
        "rng": ["Generators", "keyed_integer", "keyed_generators", "rand", "gumbel"],
        "models/configuration_itit": ["ENCODER_DROPS"],
    },
    "scheduling_itit": {"rng": ["sample_categorical"]},
    "losses": {"objectives/forward": ["caption_inputs"]},
    "layers_itit": {"models/cpu_kernels_itit": ["ITITDropout", "tall_linear", "ON_AMD", "_processor"]},
    "image_processing_itit": {"models/image_processing_itit": ["ITITImagesKwargs", "ITITImageProcessorPil"]},
    "data": {
        "data/loading": ["load_rows", "undecoded"],
        "data/image_tokens": ["image_tokens_fingerprint", "add_image_token_ids"],
    },
    "placement": {"pipelines/pipeline_utils": ["WholeComponentsMixin"]},
    "pipeline_itit": {"pipelines/pipeline_output": ["ITITPipelineOutput"]},
    "likelihood": {"pipelines/pipeline_output": ["ITITScoreOutput"]},
    "cycle_generation": {
        "pipelines/pipeline_output": ["ITITCycleDrift", "ITITCycleOutput", "word_f1", "cycle_drift"]
    },
    "rewards": {"rewards/images": ["ClipImageReward"]},
}

# Files that are put together: in which order what comes from which module; a base keeps its own head and docstring.
BASES = {
    "models/cpu_kernels_itit": "cpu_kernels_itit",
    "models/layers_itit": "layers_itit",
    "models/configuration_itit": "configuration_itit",
    "models/image_processing_itit": None,
    "models/image_loading_itit": None,
    "objectives/forward": "passes",
    "objectives/caching": None,
    "data/streams": "data",
    "data/loading": "sources",
    "rewards/dual_encoder": "scorers",
    "rewards/captions": "rewards",
    "training/sample_logging": "watching",
    "pipelines/pipeline_utils": "pipeline_inputs",
}
# What joins a base stands before its own definitions.
JOINS_ABOVE = {"models/configuration_itit"}

# First docstring of files that have no base, and of those whose base's docstring is no longer all of it.
DOCSTRINGS = {
    "rng": '''"""Randomness that is a pure function of its keys, or that comes from a `torch.Generator`.

With a list of one generator per sample, a sample's draw depends neither on its batch neighbours nor on the batch size.
"""''',
    "models/cpu_kernels_itit": '''"""Kernels for the CPU, and what this machine's processor is good at: asked once, as a compiled graph is made of the
answers."""''',
    "masking": '''"""Which image tokens are hidden and which of them the encoder is given: what training and decoding share.

Randomness comes from a `torch.Generator`, or from a list with one generator per sample, see [`~rng.rand`].
"""''',
    "models/image_loading_itit": '''"""The one door through which pictures come in, for training and for serving."""''',
    "models/image_processing_itit": '''"""The image processor: pictures to `pixel_values` and back."""''',
    "data/image_tokens": '''"""Pictures become image tokens once, in a cached column, before the training that reads them often."""''',
    "objectives/caching": '''"""What is computed once and serves several updates: synthetic samples, and features of texts.

Synthesis costs most of a cycle, and token ids are cheap to keep. A frozen text encoder says the same of a caption in
each epoch.
"""''',
    "pipelines/pipeline_output": '''"""What the pipeline returns: pictures, scores, and cycles with how far they drift."""''',
    "pipelines/cycle_generation": '''"""Text -> image -> text -> image ... (Figures 6 and 10): the loop."""''',
    "rewards/images": '''"""Rewards for pictures: a module, `reward(pixel_values, texts)`, with a gradient to the pixels."""''',
    "rewards/captions": '''"""Rewards for captions: whatever scores them, with the signature that trl gives to it.

Such a reward is a callable `reward(prompts, completions, completion_ids=None, **columns) -> list[float]`; all that the
data says of a picture comes as a column, one entry per completion.
"""''',
    "rewards/dual_encoder": '''"""Dual encoders of transformers behind one interface: judges of how well a picture and a text belong together, and
the losses that train them.

A reward, a filter, a search and a metric all ask the same thing of such a model; none of them needs to know which.
"""''',
    "training/sample_logging": '''"""Grids of pictures and texts, and the places that `report_to` names: TensorBoard, Weights & Biases, Trackio."""''',
    "pipelines/pipeline_utils": '''"""What the pipeline asks of its arguments, how it talks to a user's callback, and how it is offloaded."""''',
    "objectives/forward": '''"""The two teacher-forced passes that every objective is made of: describe an image, and fill in its hidden tokens."""''',
}

ROOM_DOCSTRINGS = {
    "models": "The network, its processors and its cache: what travels to the Hub. Imports nothing of ours outside itself.",
    "decoding": "Parallel decoding of image tokens. Takes the model as an argument.",
    "objectives": "Losses by name, the two cycles among them. Takes the model as an argument.",
    "data": "Datasets: where rows come from, streams of them, and image tokens made beforehand.",
    "training": "The trainers, their arguments, checkpoints and logs.",
    "pipelines": "The pipeline of diffusers, and what it is made of.",
    "rewards": "What scores captions and pictures, and dual encoders.",
    "hub": "Uploads to the Hub, and the model card.",
    "pretraining": "How the two frozen parts are made: image tokenizer and text encoder.",
}

# Old test file (below tests/) -> new one. Files of modules that are not here follow their module.
TESTS = {
    "test_accelerate_configs": "examples/test_accelerate_configs",
    "test_benchmark": "benchmarks/test_benchmark",
    "test_check_imports": "repo/test_check_imports",
    "test_check_repo": "repo/test_check_repo",
    "test_contract": "models/test_contract",
    "test_contrastive": "rewards/test_dual_encoder",
    "test_convert_vqgan": "pretraining/test_convert_vqgan",
    "test_distributed": "training/test_distributed",
    "test_docs": "repo/test_docs",
    "test_emoji_scenes": "emoji_scenes/test_emoji_scenes",
    "test_emoji_scenes_evaluation": "emoji_scenes/test_evaluation",
    "test_emoji_scenes_languages": "emoji_scenes/test_languages",
    "test_emoji_scenes_recogniser": "emoji_scenes/test_recogniser",
    "test_emoji_scenes_splits": "emoji_scenes/test_splits",
    "test_evaluate_modules": "metrics/test_evaluate_modules",
    "test_filters": "data_curation/test_filters",
    "test_flops": "benchmarks/test_flops",
    "test_image_features_itit": "models/test_image_features",
    "test_installation": "repo/test_installation",
    "test_invariants": "invariants/test_invariants",
    "test_measure_reliability": "repo/test_measure_reliability",
    "test_metrics": "metrics/test_captions",
    "test_metrics_retrieval": "metrics/test_retrieval",
    "test_mutation_check": "repo/test_mutation_check",
    "test_pair_weights": "data_curation/test_pair_weights",
    "test_plan_training": "benchmarks/test_plan_training",
    "test_probe_text_encoder": "studies/test_probe_text_encoder",
    "test_readme": "repo/test_readme",
    "test_shipped_checkpoint": "pipelines/test_shipped_checkpoint",
    "test_study_pair_weights": "studies/test_study_pair_weights",
    "test_study_rewards": "studies/test_study_rewards",
    "test_study_sampler": "studies/test_study_sampler",
    "test_table2": "examples/test_table2_recipes",
    "test_tokenizers": "models/test_tokenizers",
}
# Folders of tests that stay.
TEST_FOLDERS = ("examples", "reliability", "fixtures", "invariants")

# Test files that are taken apart: new file -> it gets the tests that speak of names of these modules, and of none of the
# file's own module.
TEST_SPLITS = {
    "test_masking": {"test_rng": ["rng"]},
    "test_layers_itit": {"models/test_cpu_kernels_itit": ["models/cpu_kernels_itit"]},
    "test_image_processing_itit": {"models/test_image_loading_itit": ["models/image_loading_itit"]},
    "test_data": {
        "data/test_loading": ["data/loading"],
        "data/test_image_tokens": ["data/image_tokens"],
    },
    "test_rewards": {"rewards/test_images": ["rewards/images"]},
    "test_cycle_generation": {"pipelines/test_pipeline_output": ["pipelines/pipeline_output"]},
    "test_metrics": {
        "metrics/test_images": ["metrics/images"],
        "metrics/test_coco_captions": ["metrics/coco_captions"],
    },
    "test_losses": {"objectives/test_forward": ["objectives/forward"]},
}
# The file that is the module's own, against which the split is judged.
TEST_OWN = {
    "test_masking": ["masking"],
    "test_layers_itit": ["models/layers_itit"],
    "test_image_processing_itit": ["models/image_processing_itit"],
    "test_data": ["data/streams"],
    "test_rewards": ["rewards/captions"],
    "test_cycle_generation": ["pipelines/cycle_generation"],
    "test_metrics": ["metrics/captions"],
    "test_losses": ["objectives/losses"],
}
TEST_MODULE_OF = {"test_image_processing_itit": "models/test_image_processing_itit"}

# Files of utils/.
UTILS = {
    **{name: f"utils/studies/{name}" for name in (
        "evaluate_dual_encoder.py", "evaluate_emoji_scenes.py", "probe_text_encoder.py", "study_pair_weights.py",
        "study_rewards.py", "study_sampler.py",
    )},
    **{name: f"utils/benchmarks/{name}" for name in (
        "benchmark.py", "benchmark_cases.py", "benchmark_goals.json", "benchmark_straight_through.py", "counting.py",
        "flops.py", "plan_training.py",
    )},
}
UTILS_PATTERNS = {"study_": "utils/studies", "probe_": "utils/studies", "evaluate_": "utils/studies",
                  "benchmark": "utils/benchmarks"}

# What test files share leaves them; "=" begins the text of a statement without a name.
TEST_LEAVES = {
    "tests/test_trainer": {"tests/training_utils": ["make_trainer", "losses_of", "weights_of", "FULL_CYCLE"]},
    "tests/test_distributed": {"tests/training_utils": ["launch", "_run", "=multiprocessing.set_forkserver_preload"]},
    "tests/examples/test_examples": {"tests/testing_utils": ["script", "ROOT"]},
}
BASES["tests/training_utils"] = None
DOCSTRINGS["tests/training_utils"] = '''"""Small trainings that several tests make, in this process or in several."""'''

# Test files that are new: by how their names begin.
TEST_PATTERNS = {
    "test_convert_": "pretraining/", "test_study_": "studies/", "test_probe_": "studies/", "test_evaluate_": "studies/",
    "test_benchmark": "benchmarks/", "test_check_": "repo/", "test_emoji_scenes_": "emoji_scenes/",
    "test_train_": "examples/",
}

# Imports that nobody reads in the file but that must stand there: new file -> (old module, imported name).
KEPT_IMPORTS = {"models/image_processing_itit": ("image_processing_itit", "ImageProcessingMixin")}
