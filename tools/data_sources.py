"""Where the data sets are, and what licence each has."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

# The branch where the Hub keeps data sets converted to parquet.
_TABLES = 'refs/convert/parquet'
# The last commit of the CALM authors' repository that changed its data.
_CALM = '9d2bac4329bd934a9d396e81f74c06a9d47be1dc'


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a data set is: one `url`, or `patterns` of files in a Hub `repo`.

  Of an archive, what is below the folder `members` is unpacked.
  """

  about: str
  licence: str
  home: str
  readers: str  # values of data.name
  url: str = ''
  repo: str = ''
  revision: str = 'main'
  patterns: tuple[str, ...] = ()
  members: str = ''


SOURCES: Mapping[str, Source] = {
    'xcsqa': Source(
        about='X-CSQA, the original release: jsonl, with English train',
        licence='MIT',
        home='https://inklab.usc.edu/XCSR/',
        readers='xcsqa',
        url='https://inklab.usc.edu/XCSR/xcsr_datasets.zip',
        members='X-CSR_datasets/X-CSQA/',
    ),
    'xcsqa_hub': Source(
        about='X-CSQA on the Hugging Face Hub: parquet, dev and test',
        licence='MIT',
        home='https://huggingface.co/datasets/INK-USC/xcsr',
        readers='xcsqa',
        repo='INK-USC/xcsr',
        revision=_TABLES,
        patterns=tuple(
            f'X-CSQA-{lang}/*/*.parquet'
            for lang in ('en', 'zh', 'fr', 'it', 'de', 'jap', 'es')
        ),
    ),
    'medqa': Source(
        about='MedQA, the original release with its textbooks: jsonl, text',
        licence='MIT (github.com/jind11/MedQA); the Hub states none',
        home='https://github.com/jind11/MedQA',
        readers='medqa, medqa_us(_4), medqa_mainland(_4), medqa_taiwan',
        repo='bigbio/med_qa',
        patterns=('data_clean.zip',),
        members='data_clean/',
    ),
    'medqa_hub': Source(
        about='MedQA on the Hugging Face Hub: parquet, no textbooks',
        licence='MIT (github.com/jind11/MedQA); the Hub states none',
        home='https://huggingface.co/datasets/bigbio/med_qa',
        readers='medqa, medqa_us(_4), medqa_mainland(_4), medqa_taiwan',
        repo='bigbio/med_qa',
        revision=_TABLES,
        patterns=tuple(
            f'med_qa_{edition}_source/*/*.parquet'
            for edition in ('en', 'en_4options', 'zh', 'zh_4options', 'tw')
        ),
    ),
    'medqa_us_4': Source(
        about='MedQA, US, 4 options with phrases: jsonl, train and test',
        licence='CC-BY-4.0 on the Hub; MIT (github.com/jind11/MedQA)',
        home='https://huggingface.co/datasets/GBaker/MedQA-USMLE-4-options',
        readers='medqa_us_4',
        repo='GBaker/MedQA-USMLE-4-options',
        patterns=('phrases_no_exclude_*.jsonl',),
    ),
    'calm_authors': Source(
        about="The CALM authors' X-CSQA samples, pairs and MEDQA tests: json",
        licence='none stated: for measuring only, not to be passed on',
        home='https://github.com/wangym2/CALM',
        readers='xcsqa_authors, medqa_authors_us, medqa_authors_mainland',
        url=f'https://github.com/wangym2/CALM/archive/{_CALM}.zip',
        members=f'CALM-{_CALM}/data/',
    ),
}
