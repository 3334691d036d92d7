// What the simulator answers, for tests in Node: the same pure function as tests/sim/answer.c.
//
//   import { answer } from './answer.mjs'
//   answer('claude-sonnet-4-5', 'Hello [sim tokens=20]', 20)
//
// On the command line: node answer.mjs MODEL LAST_USER_MESSAGE TOKENS

const TOKENS = [
	" the", " learner", " writes", " a", " clear", " sentence", ",", ".", " and", " then",
	" stops", " to", " think", " about", " its", " end", " para", "graph", " inter", "est",
	"ing", "ly", " un", "believ", "able", " re", "read", "-", "write", " 12", ".5", "%",
	"\n", "\n\n", "\r\n", "\r", "\t", " \"quoted\"", "\"", "\\", "\\n", " C:\\essays", "'",
	" <b>&amp;</b>", " {\"score\":4}", " [1]", "\u0001", " \u007f", " é", "ß", " naïve",
	" über", " Ñandú", " —", "…", " “hm”", " 漢字", "かな", " €5", "ก็", " 😀", "👩‍🏫", "🇩🇪",
	" 𝄞",
]

function seed(model, lastUser) {
	const bytes = Buffer.concat([Buffer.from(model), Buffer.from([0]), Buffer.from(lastUser)])
	let h = 2166136261
	for (const b of bytes) h = Math.imul(h ^ b, 16777619) >>> 0
	return h || 1
}

/** The first `tokens` tokens, each a string; `choice`: of which of OpenAI's choices. */
export function answerTokens(model, lastUser, tokens, choice = 0) {
	let x = (seed(model, lastUser) + Math.imul(choice, 2654435769)) >>> 0 || 1
	const out = []
	for (let i = 0; i < tokens; i++) {
		x = (x ^ (x << 13)) >>> 0
		x = (x ^ (x >>> 17)) >>> 0
		x = (x ^ (x << 5)) >>> 0
		out.push(TOKENS[x % 64])
	}
	return out
}

/** The answer's text: what must arrive, byte for byte. */
export function answer(model, lastUser, tokens, choice = 0) {
	return answerTokens(model, lastUser, tokens, choice).join('')
}

if (process.argv[1] && import.meta.url.endsWith('/' + process.argv[1].split('/').pop()))
	process.stdout.write(answer(process.argv[2], process.argv[3], Number(process.argv[4])))
