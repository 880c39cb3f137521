"""README and documentation: length, commands, config fields, links, language, and where every number comes from."""

import ast
import functools
import importlib
import json
import pathlib
import re
import shlex
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import links  # noqa: E402
import reference  # noqa: E402

import launch  # noqa: E402
from experiments.runs import config as configs  # noqa: E402
from experiments.tables import definition  # noqa: E402
from experiments.tables.summary import summarize  # noqa: E402
from world_models.core.options import OneOf  # noqa: E402

README = ROOT / "README.md"
PAGES = [p for p in sorted((ROOT / "docs").rglob("*.md")) if "results" not in p.parts]  # those are generated
TEXTS = [README, *PAGES]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
MODULES = reference.option_modules(ROOT)
GENERATED = re.compile(r"<!-- (results|capacity): made by .*?<!-- end of \1 -->", re.DOTALL)
# The field's terms stand in the table of docs/contributing.md's style and in the glossary; these are not among them.
FORBIDDEN = (
    r"(?<!\.)\bfloors?\b",  # but np.floor
    r"goals reached",
    r"reaches (more|most|fewer) goals",
    r"there at the end",
    r"straight on\b",
    r"parted by",
    r"\b(is|are|be) refused",
    r"\brefusals?\b",
    r"memory kept",
    r"nor has been run",
    r"shortest ways?\b",
    r"\bMind\b",
    r"\bThoughts?\b",
    r"order of the house",
    r"so manieth",
    r"(?<![\".])\bverbs?\b",  # but "verb", the part of speech
    r"\bledgers?\b",
    r"\bdrills?\b",
)


def name(path):
    return str(path.relative_to(ROOT))


def prose(text):
    """A page without code blocks and generated parts."""
    return re.sub(r"^( *)```.*?^\1```", "", GENERATED.sub("", text), flags=re.DOTALL | re.MULTILINE)


def shell_lines(text):
    """The commands of the ```bash blocks of a page, without comments, continued lines joined."""
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def test_readme_has_at_most_a_thousand_words():
    text = re.sub(r"<!--.*?-->", "", README.read_text(), flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)  # targets of links are not read
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 1000


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_commands_exist(path):
    """Every command, config file and override of a page is one that `launch.py` would take."""
    config_of = {}  # by workdir, as the page's earlier commands say
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for words in shell_lines(path.read_text()):
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)
        if words[:2] == ["python", "-m"]:
            module = ROOT.joinpath(*words[2].split("."))
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), words
        if words[:2] == ["python", "launch.py"]:
            assert words[2] in launch.COMMANDS, words
            check_overrides(words[3:], config_of)


def check_overrides(words, config_of):
    """Raises if a config file does not exist or does not take the overrides of a command."""
    flags = dict(word[2:].split("=", 1) for word in words if re.match(r"--(config|workdir)=", word))
    overrides = [word for word in words if word.startswith("--config.")]
    file = flags.get("config") or next((word for word in words if word.startswith("configs/")), None)
    if file == "…":
        return
    file = file or config_of.get(flags.get("workdir"), "configs/two_rooms.py")
    config_of[flags.get("workdir")] = file
    config = configs.load_file(str(ROOT / file))
    if any("record.source" in word for word in overrides):  # another source has other fields
        overrides = [word for word in overrides if not word.startswith("--config.record.")]
    configs.override(config, overrides)


@functools.cache
def field_patterns():
    """Regular expressions of all blocks and fields that a config of some family may have."""
    classes = [cls for module in MODULES for cls in reference.option_classes(importlib.import_module(module))]
    names = {"config"}
    for cls, blocks in reference.uses(classes).items():
        names |= blocks | {block.removesuffix(".<name>") for block in blocks}
        for field in reference.config_fields(cls):
            names |= {f"{block}.{field.name}" for block in blocks}
            if isinstance(field.metadata.get("schema"), OneOf):  # and the tag that says which
                names |= {f"{block}.{field.name}.{field.metadata['schema'].tag}" for block in blocks}
    return [re.escape(name).replace("<name>", "[a-z_0-9]+") for name in names]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_config_fields_exist(path):
    for field in re.findall(r"`(?:--)?(config\.[a-z_0-9.]*[a-z_0-9])", path.read_text()):
        if field != "config.some.field":
            assert any(re.fullmatch(pattern, field) for pattern in field_patterns()), field


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_resolve(path):
    """Files of relative links exist; generated pages have a source."""
    text = re.sub(r"`[^`\n]*`", "", prose(path.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file = target.partition("#")[0]
        if not file or "://" in file:
            continue
        found = (path.parent / file).resolve()
        generated = found.parent.name == "api" or found == ROOT / "docs" / "configuration.md"
        assert found.exists() or generated or (not RESULTS and found.parent.name == "results"), target


@pytest.mark.parametrize("path", [*TEXTS, *RESULTS], ids=name)
def test_pages_use_the_terms_of_the_field(path):
    text = path.read_text()
    assert not [match.group() for word in FORBIDDEN for match in re.finditer(word, text)]


def test_code_uses_the_terms_of_the_field():
    sources = [ROOT / "launch.py"]
    for folder in ("world_models", "experiments", "configs"):
        sources += sorted((ROOT / folder).rglob("*.py"))
    found = [
        f"{name(path)}: {match.group()}"
        for path in sources
        for word in FORBIDDEN
        for match in re.finditer(word, path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_numbers_come_from_results(path):
    """A measured number stands before a comment with its source: `<!-- results/FILE.json: key / key / … -->`.

    What is assumed and not measured stands before `<!-- assumed -->`.
    """
    text = prose(path.read_text())
    sourced = re.compile(r"(-?[\d.,]+)( (?:%|dB|GFLOP))?<!-- (results/\S+\.json): (.*?) -->")
    for number, _, file, keys in sourced.findall(text):
        value = look_up(measured(file), keys.split(" / "))
        digits = len(number.partition(".")[2])
        assert f"{value:.{digits}f}" == number.replace(",", ""), f"{number} is {value} in {file}: {keys}"
    rest = sourced.sub("", text)
    rest = re.sub(r"\d+ %<!-- assumed -->|95 % intervals?|`[^`\n]*`|\]\([^)]*\)", "", rest)
    rest = rest.replace("\n", " ")
    assert not re.findall(r"\d+(?:\.\d+)? ?(?:%|dB|GFLOP)(?!\w)", rest)


@functools.cache
def measured(file):
    """The content of a file in results/; of a table what follows from it, as its page shows it."""
    content = json.loads((ROOT / file).read_text())
    return summarize(definition.load(content["table"]), content) if "table" in content else content


def look_up(found, keys):
    """The number under some keys: of objects, of lists (an index, or the `name` of an entry); a mean for its number."""
    for key in keys:
        if isinstance(found, dict):
            found = found[key]
        else:
            found = found[int(key)] if key.isdigit() else next(entry for entry in found if entry["name"] == key)
    return found["mean"] if isinstance(found, dict) else found


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_python_blocks_parse(path):
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE):
        assert ast.parse(block).body


@pytest.mark.parametrize("module", MODULES)
def test_every_option_has_a_sentence(module):
    for cls in reference.option_classes(importlib.import_module(module)):
        missing = {field.name for field in reference.config_fields(cls)} - set(reference.attributes(cls))
        assert not missing, f"{cls.__name__} does not say what {missing} is"


def test_reference_shows_blocks_types_and_defaults():
    page = reference.configuration_page(ROOT)
    assert "config.train.optimizer" in page
    assert "config.model.level.&lt;name&gt;" in page
    assert re.search(r"\| `learning_rate` \| <code>float</code> \| <code>0.001</code> \| \S", page)


def test_external_resources_are_found(tmp_path):
    tags = (
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<style>@import url(http://example/x.css);</style>",
        '<img alt="" src="https://example/x.png">',
    )
    for i, tag in enumerate(tags):
        (tmp_path / f"{i}.html").write_text(f"<html>{tag}</html>")
    (tmp_path / "fine.html").write_text('<a href="https://example/">a link</a><img src="x.png"><script src="x.js">')
    assert [file for file, _ in links.external_resources(tmp_path)] == [f"{i}.html" for i in range(len(tags))]
