// One JSON object a line: commands come in, and their answers, and what happens meanwhile, go out.
'use strict';

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

// `commands` by the name that a line has in `do`. What one returns, or throws, is its answer.
function obey(commands) {
  require('readline').createInterface({ input: process.stdin })
    .on('line', async (line) => {
      const command = JSON.parse(line);
      try {
        say({ id: command.id, ...(await commands[command.do](command)) });
      } catch (error) {
        say({ id: command.id, error: String(error) });
      }
    })
    .on('close', () => process.exit(0));
}

module.exports = { say, obey };
