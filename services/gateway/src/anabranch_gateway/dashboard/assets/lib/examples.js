// @ts-check
/** Example requests for the editor. They need only built-in agents. */

export const EXAMPLES = [
  {
    name: "Hello",
    text: `name: hello
task_groups:
  - name: greetings
    tasks:
      - name: greet
        agent: echo
        message_template: "hello, river"
        result_keys: [greeting]
`,
  },
  {
    name: "Fan out and join",
    text: `name: fan-out
context:
  words: [river, branch, stream, delta, spring, estuary]
task_groups:
  - name: words
    tasks:
      - name: each
        agent: sleep
        dependencies: [words]
        expansion_config: {type: array, array_mapping: {word: words}}
        inputs: {seconds: 1, value: "{word}!"}
        result_keys: [shouted]
  - name: report
    tasks:
      - name: together
        agent: echo
        dependencies: [shouted]
        inputs: {all: "{shouted}"}
        result_keys: [report]
`,
  },
  {
    name: "Matrix with retries",
    text: `name: matrix
task_groups:
  - name: matrix
    tasks:
      - name: cell
        agent: fail
        expansion_config:
          type: matrix
          array_mapping: {row: [a, b, c, d], column: [1, 2, 3, 4, 5, 6]}
        inputs: {times: 1}
        retry: {strategy: exponential, max_attempts: 3, delay: 500ms}
        result_keys: [cells]
`,
  },
];
