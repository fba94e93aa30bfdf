import { Command } from "clipanion";
import type { Context } from "./base.ts";

export class VersionCommand extends Command<Context> {
  static override paths = [["--version"], ["-V"]];

  override execute(): Promise<number> {
    this.context.stdout.write(`${this.context.tool.replace("/", " ")}\n`);
    return Promise.resolve(0);
  }
}
