// The types of the browser's client: they fit together, say what the module exports, and let through what its README shows.

import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import * as module from '../../ops/client/js/sluice.js'
import { run, test } from '../support/test.mjs'

const FOLDER = fileURLToPath(new URL('../../ops/client/js/', import.meta.url))
const DTS = `${FOLDER}sluice.d.ts`

/** What the compiler says of `source`, a file beside the module. */
function complaints(source) {
	const name = `${FOLDER}try.ts`
	const options = { strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], types: [] }
	const host = ts.createCompilerHost(options)
	const read = host.getSourceFile
	const exists = host.fileExists
	host.fileExists = (file) => file === name || exists(file)
	host.getSourceFile = (file, ...rest) => (file === name ? ts.createSourceFile(name, source, ...rest) : read(file, ...rest))
	const program = ts.createProgram([name, DTS], options, host)
	return ts.getPreEmitDiagnostics(program).map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'))
}

const HEAD = "import { Sluice, SluiceError, Job, Answer } from './sluice.js'\nconst s = new Sluice({ url: 'wss://x/v1/ws', credential: async ({ session }) => session ?? 'x', session: 'ses_1' }).open()\n"

test('the types fit together: what the README shows passes, and what is wrong does not', () => {
	const source = `${HEAD}
		s.addEventListener('state', (e) => { const t: string = e.detail.state; void t })
		s.addEventListener('job', (e) => { const j: Job = e.detail; j.cancel() })
		s.addEventListener('anything', null)
		const job = s.submit({ kind: 'chat', task: 'chat', messages: [{ role: 'user', content: 'x' }] })
		job.addEventListener('change', () => void [job.text, job.status, job.position])
		job.addEventListener('delta', (e) => { const n: number = e.detail.at; void n })
		job.done.then((j) => j.text, (e: unknown) => e instanceof SluiceError && e.retryAfterMs)
		const a = new Answer(1, 'x')
		const w: 'taken' | 'dropped' | 'gap' | 'broken' = a.delta({ attempt: 1, at: 1, text: 'y' })
		void w
		// @ts-expect-error a job that is none
		s.submit(5)
		// @ts-expect-error without a credential
		new Sluice({ url: 'x' })
		// @ts-expect-error a status that there is not
		void (job.status === 'done')
		// @ts-expect-error writing what only the client does
		job.status = 'failed'`
	assert.deepEqual(complaints(source), [])
}, { limit_ms: 120000 })

test('the types name what the module exports, and its classes’ members', () => {
	const program = ts.createProgram([DTS], { target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], types: [] })
	const checker = program.getTypeChecker()
	const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(DTS)))
	const classes = exported.filter((s) => s.flags & ts.SymbolFlags.Class)
	assert.deepEqual(classes.map((s) => s.name).sort(), Object.keys(module).sort())
	for (const c of classes) {
		const declared = new Set(checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(c)).map((p) => p.name))
		const inner = new Set(['constructor', 'note', 'standing'])
		for (const name of Object.getOwnPropertyNames(module[c.name].prototype)) assert.ok(inner.has(name) || declared.has(name), `${c.name}.${name}`)
	}
}, { limit_ms: 120000 })

await run(import.meta.url)
