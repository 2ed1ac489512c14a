"""`optimum-cli export pocket`: optimum loads this file as `optimum.commands.register.register_pocket`."""

import sys
from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class PocketExportCommand(BaseOptimumCLICommand):
    """The same code as `pocket export`."""

    COMMAND = CommandInfo(name="pocket", help="Export a method of Pocket Diffusers to ONNX, ExecuTorch or Core ML.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Adds the options of `pocket export`."""
        parser.add_argument("slug", metavar="SLUG", help="Short name of the method; `pocket list` shows them.")
        parser.add_argument("--to", default="onnx", metavar="BACK_END", help="onnx, executorch or coreml.")
        parser.add_argument("--precision", default="fp32", help="fp32, fp16 or int8.")
        parser.add_argument("--model", metavar="PATH_OR_ID", help="Weights; SLUG-nano if left out.")
        parser.add_argument("-o", "--output", help="Folder for the bundle.")
        parser.add_argument("--overwrite", action="store_true", help="Replace an earlier result in --output.")

    def run(self) -> None:
        """Exports; what a user can mend ends with one sentence and exit code 2."""
        from pocket_diffusers.pipelines.export.export_bundle import export_pipeline

        args = self.args
        try:
            bundle = export_pipeline(args.slug, args.model, args.to, args.precision, args.output, args.overwrite)
        except (ValueError, OSError) as error:
            print(f"Error: {' '.join(str(error).split())}", file=sys.stderr)
            raise SystemExit(2) from None
        print(f"Exported {args.slug}: {bundle / 'README.md'} says how to call it")


REGISTER_COMMANDS = [(PocketExportCommand, ExportCommand)]
