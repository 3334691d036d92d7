// The example page in Chromium, with all that befalls a page: the text at the end is the stored one each time.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Api } from '../support/api.mjs'
import { Chat, launch, serious } from '../support/browser.mjs'
import { Proxy } from '../support/proxy.mjs'
import { Stack } from '../support/stack.mjs'
import { run, test, until } from '../support/test.mjs'

const stack = await Stack.open()
const api = new Api(stack)
const proxy = await Proxy.open(stack.push)
const behind = await front('chat', 'front.pages_push_url', `ws://127.0.0.1:${proxy.port}/v1/ws`)
const browser = await launch()
const LONG = 'Tell me more. [sim rate=60 tokens=160 ttft=50]' // almost three seconds

/** A front of our own with these options. */
async function front(name, ...options) {
	const set = ['--set', 'front.listen=127.0.0.1:0']
	for (let i = 0; i < options.length; i += 2) set.push('--set', `${options[i]}=${options[i + 1]}`)
	const service = await stack.more('sluice-front', `sluice-front-${name}`, 'front', ...set)
	const log = readFileSync(`${stack.logs}/${service.id}.log`, 'utf8')
	service.url = `http://127.0.0.1:${[...log.matchAll(/listening.*?port=(\d+)/g)].at(-1)[1]}`
	return service
}

/** The answer has ended well, with the very text that is stored, and its job was called once. */
async function whole(chat, answer) {
	const id = await chat.over(answer)
	const job = await api.ended(id)
	assert.equal(job.status, 'succeeded')
	assert.equal(await chat.text(answer), job.result.text)
	assert.deepEqual(chat.complaints, [])
	return job
}

async function withChat(url, fn, options) {
	const chat = await Chat.open(browser, url, options)
	try {
		await fn(chat)
	} finally {
		proxy.away = false // also where a test failed in between
		await chat.close()
	}
}

test('the page streams an answer; what is said aloud is its end, not its pieces', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		const first = await chat.has(answer, 30)
		assert.ok(first.length < 400, 'it is shown while it comes')
		assert.equal(await answer.getAttribute('aria-busy'), 'true')
		assert.equal(await chat.page.getAttribute('#log', 'aria-live'), 'off')
		assert.doesNotMatch(await chat.page.textContent('#said'), /complete/)
		await whole(chat, answer)
		await until('its end is said', async () => (await chat.page.textContent('#said')).startsWith('The answer is complete'))
		assert.match(await answer.locator('.facts').textContent(), /anthropic.*160 tokens/)
	}))

test('the network is cut and comes back', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		proxy.away = true
		proxy.cut()
		await chat.page.waitForSelector('#connection[data-state=waiting]')
		assert.match(await chat.page.textContent('#connection-text'), /Connection lost/)
		const then = await chat.text(answer)
		await until('it is tried again meanwhile', async () => (await chat.page.textContent('#connection-text')).includes('again'))
		proxy.away = false
		await chat.connected()
		await whole(chat, answer)
		assert.ok((await chat.text(answer)).startsWith(then), 'what was there stayed')
	}))

test('the machine is off line and on line again', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		await chat.context.setOffline(true)
		proxy.away = true
		proxy.cut()
		await chat.page.waitForSelector('#connection[data-state=waiting]')
		await until('it says so', async () => (await chat.page.textContent('#connection-text')).startsWith('No network'))
		proxy.away = false
		await chat.context.setOffline(false)
		await chat.connected()
		await whole(chat, answer)
	}))

test('the tab sleeps, and its connection dies meanwhile', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		const id = await answer.getAttribute('data-job')
		const cdp = await chat.context.newCDPSession(chat.page)
		await cdp.send('Page.setWebLifecycleState', { state: 'frozen' })
		proxy.cut()
		await api.ended(id) // the answer is whole while the tab sleeps
		await cdp.send('Page.setWebLifecycleState', { state: 'active' })
		await whole(chat, answer)
		await chat.connected()
	}))

test('the tab sleeps, and its connection lives', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		const cdp = await chat.context.newCDPSession(chat.page)
		const opened = proxy.opened
		await cdp.send('Page.setWebLifecycleState', { state: 'frozen' })
		await new Promise((r) => setTimeout(r, 1500))
		await cdp.send('Page.setWebLifecycleState', { state: 'active' })
		await whole(chat, answer)
		assert.equal(proxy.opened, opened, 'the connection was kept')
	}))

test('the node drains and comes back', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask('A long one. [sim rate=30 tokens=200 ttft=50]')
		await chat.has(answer, 60)
		await stack.down('sluice-push-1')
		await stack.up('sluice-push-1')
		const job = await whole(chat, answer)
		assert.equal(job.calls.length, 1)
		await chat.connected()
	}), { limit_ms: 60000 })

test('a message that was typed without a connection is handed in when it stands, once', () =>
	withChat(behind.url, async (chat) => {
		proxy.away = true
		proxy.cut()
		await chat.page.waitForSelector('#connection[data-state=waiting]')
		const answer = await chat.ask('Later. [sim rate=0 tokens=20]')
		await until('it says that it waits', async () => /when the connection stands/.test(await answer.locator('.place').textContent()))
		proxy.away = false
		const job = await whole(chat, answer)
		assert.equal(job.calls.length, 1)
	}))

test('the page is loaded again in the middle: the conversation stands, the answer goes on', () =>
	withChat(behind.url, async (chat) => {
		const done = await chat.ask('First. [sim rate=0 tokens=20]')
		await whole(chat, done)
		const answer = await chat.ask('Tell me more. [sim rate=60 tokens=160 ttft=1200]')
		await chat.has(answer, 60)
		const by = await answer.locator('h2').textContent()
		assert.match(by, /^Answer of \w+$/)
		await chat.page.reload()
		await chat.connected()
		assert.equal(await chat.page.locator('article.other').count(), 2)
		assert.equal(await chat.page.locator('article.own').count(), 2)
		const again = chat.page.locator('article.other').nth(1)
		assert.equal(await again.locator('h2').textContent(), by)
		await until('who answers is shown', async () => /^anthropic · /.test(await again.locator('.facts').textContent()))
		await whole(chat, again)
		await until('its facts are shown', async () => /160 tokens/.test(await again.locator('.facts').textContent()))
		assert.match(await again.locator('.facts').textContent(), /^anthropic · .*first word after [1-9]/, 'it was seen before the reload')
		await whole(chat, chat.page.locator('article.other').nth(0))
	}))

test('the page is loaded again before the first word: no figure is shown that was not seen', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask('Slowly. [sim rate=60 tokens=40 ttft=2500]')
		await until('it is asked', async () => /^anthropic is asked/.test(await answer.locator('.place').textContent()))
		await chat.page.reload()
		await chat.connected()
		await whole(chat, answer)
		await until('its facts are shown', async () => /40 tokens/.test(await answer.locator('.facts').textContent()))
		assert.match(await answer.locator('.facts').textContent(), /^anthropic · /)
		assert.doesNotMatch(await answer.locator('.facts').textContent(), /first word/)
	}))

test('a text with half of an emoji is not sent, stays in the box, and the page says why', () =>
	withChat(behind.url, async (chat) => {
		const { page } = chat
		await page.evaluate(() => (document.getElementById('text').value = 'I like it 😀'.slice(0, -1)))
		await page.press('#text', 'Enter')
		await until('it is told', async () => /was not sent: .*half of a character/.test(await page.textContent('#alarm')))
		assert.match(await page.locator('.note').textContent(), /was not sent: .*half of a character/)
		assert.equal(await page.inputValue('#text').then((text) => text.startsWith('I like it')), true)
		assert.equal(await page.locator('article').count(), 0)
		await whole(chat, await chat.ask('I like it 😀 [sim rate=0 tokens=20]'))
	}))

test('a message that waits for a connection survives a reload; one that was stopped meanwhile stays so', () =>
	withChat(behind.url, async (chat) => {
		proxy.away = true
		proxy.cut()
		await chat.page.waitForSelector('#connection[data-state=waiting]')
		await chat.ask('Stopped. [sim rate=0 tokens=20]')
		await chat.page.keyboard.press('Escape')
		await chat.ask('Later. [sim rate=0 tokens=20]')
		await chat.page.reload()
		const answers = chat.page.locator('article.other')
		await answers.nth(1).waitFor()
		assert.equal(await answers.nth(0).getAttribute('data-status'), 'cancelled')
		assert.equal(await answers.nth(0).locator('.trouble').textContent(), 'Stopped.')
		await until('it says that it waits', async () => /when the connection stands/.test(await answers.nth(1).locator('.place').textContent()))
		proxy.away = false
		const job = await whole(chat, answers.nth(1))
		assert.equal(job.calls.length, 1)
		assert.equal(await answers.count(), 2)
		const { session } = JSON.parse(await chat.page.evaluate(() => sessionStorage.getItem('sluice-chat')))
		assert.deepEqual((await api.call('GET', `/v1/jobs?session=${session}`)).json.data.map((j) => j.id), [job.id])
	}))

test('the page is loaded again right behind Enter: one job, met as the message’s own', () =>
	withChat(behind.url, async (chat) => {
		await chat.page.evaluate(() => {
			document.getElementById('text').value = 'At once. [sim rate=0 tokens=20]'
			document.getElementById('composer').requestSubmit()
			location.reload()
		})
		await chat.page.waitForLoadState()
		await chat.connected()
		const answers = chat.page.locator('article.other')
		const job = await whole(chat, answers.first())
		assert.equal(job.calls.length, 1)
		assert.equal(await answers.count(), 1)
		assert.equal(await chat.page.locator('.note').count(), 0)
	}))

/** Notes what is said aloud, and for how long it stands: [{text, ms}]. */
async function ears(page) {
	await page.evaluate(() => {
		window.heard = []
		const said = document.getElementById('said')
		new MutationObserver(() => {
			const last = window.heard.at(-1)
			if (last) last.ms ??= performance.now() - last.at
			if (said.textContent) window.heard.push({ text: said.textContent, at: performance.now(), ms: null })
		}).observe(said, { childList: true, characterData: true, subtree: true })
	})
	return () => page.evaluate(() => window.heard.map(({ text, ms }) => ({ text, ms })))
}

test('what happens when a provider fails midway is as it was chosen', () =>
	withChat(behind.url, async (chat) => {
		const sent = []
		chat.page.on('websocket', (ws) => ws.on('framesent', ({ payload }) => sent.push(JSON.parse(payload))))
		await chat.page.reload()
		await chat.connected()
		for (const on_cut of ['restart', 'continue', 'fail']) {
			await chat.page.selectOption('#on-cut', on_cut)
			await whole(chat, await chat.ask('Midway. [sim rate=0 tokens=20]'))
			assert.equal(sent.findLast((m) => m.op === 'submit').job.on_cut, on_cut)
		}
	}))

test('failover is seen as it happens, before the first word and in the middle; it is said aloud, each word for long enough', () =>
	withChat(behind.url, async (chat) => {
		const heard = await ears(chat.page)
		const all_said = async (...words) => {
			await until('the end is said', async () => /complete/.test((await heard()).at(-1)?.text))
			const said = await heard()
			for (const word of words) assert.ok(said.some(({ text }) => text === word), `${word}: ${JSON.stringify(said)}`)
			for (const { text, ms } of said) assert.ok(ms === null || ms > 900, `${text} stood for ${ms} ms`)
			assert.deepEqual(said.filter(({ text }, i) => text === said[i - 1]?.text), [], 'nothing is said twice')
			await chat.page.evaluate(() => window.heard.splice(0))
		}
		const before = await chat.ask('One. [sim only=claude status=529 words=1 rate=0 tokens=20]')
		const one = await whole(chat, before)
		assert.match(await before.locator('.events').textContent(), /anthropic did not answer, openai is asked/)
		assert.equal(one.target.provider, 'openai')
		assert.equal(await before.locator('h2').textContent(), 'Answer of openai')
		await all_said('anthropic did not answer, openai is asked')
		const middle = await chat.ask('Two. [sim only=claude fail=30 words=1 rate=60 tokens=60]')
		const two = await whole(chat, middle)
		assert.match(await middle.locator('.events').textContent(), /anthropic broke off: the answer is begun anew/)
		assert.equal(two.target.provider, 'openai')
		await all_said('anthropic broke off: the answer is begun anew', 'openai is asked')
	}))

test('the place in line is shown, and a seam where another provider goes on', () =>
	withChat(behind.url, async (chat) => {
		// The server has neither for a lone job whose provider is well: they are put in on the way.
		let put = () => {}
		await chat.page.routeWebSocket(/v1\/ws/, (ws) => {
			const server = ws.connectToServer()
			put = (e) => ws.send(JSON.stringify(e))
			server.onMessage((m) => ws.send(m))
		})
		await chat.page.reload()
		await chat.connected()
		const answer = await chat.ask('Which place? [sim ttft=2500 rate=60 words=1 tokens=80]')
		await until('it is accepted', async () => answer.getAttribute('data-job'))
		const job = await answer.getAttribute('data-job')
		put({ ev: 'queued', job, lane: 'interactive', position: 3, estimate_ms: 2500, why: 'slots' })
		await until('its place is shown', async () => (await answer.locator('.place').textContent()) === 'In line, position 3, about 2.5 s')
		await until('and said', async () => (await chat.page.textContent('#said')) === 'In line, position 3, about 2.5 s')
		put({ ev: 'queued', job, lane: 'interactive', position: 1, estimate_ms: null, why: 'slots' })
		await until('the next place is shown', async () => (await answer.locator('.place').textContent()) === 'Next in line')
		await chat.has(answer, 20)
		put({ ev: 'seam', job, attempt: 1, at: 4, provider: 'openai', model: 'gpt-4o-mini' })
		await answer.locator('.seam').waitFor()
		assert.match(await answer.locator('.events').textContent(), /openai goes on where it stopped/)
		await whole(chat, answer)
		assert.equal(await answer.locator('.seam').count(), 1)
	}))

test('Escape stops the answer; what was there stays', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		await chat.page.keyboard.press('Escape')
		const id = await chat.over(answer)
		const job = await api.ended(id)
		assert.equal(job.status, 'cancelled')
		assert.equal(await chat.text(answer), job.result.text)
		assert.match(await answer.locator('.trouble').textContent(), /Stopped/)
		assert.equal(await chat.page.evaluate(() => document.activeElement.id), 'text')
	}))

test('Escape that belongs to an input method stops nothing', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		const escape = (init) => chat.page.evaluate((init) => document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, ...init })), init)
		await escape({ isComposing: true })
		await escape({ keyCode: 229 })
		await whole(chat, answer)
	}))

test('the Stop button goes when the answer is whole, and the focus goes on to the message', () =>
	withChat(behind.url, async (chat) => {
		const answer = await chat.ask(LONG)
		await chat.has(answer, 60)
		await chat.page.focus('#stop')
		await whole(chat, answer)
		await chat.page.waitForSelector('#stop', { state: 'hidden' })
		assert.equal(await chat.page.evaluate(() => document.activeElement.id), 'text')
	}))

test('Escape drops a recording, and so does New chat: nothing of it is sent', () =>
	withChat(behind.url, async (chat) => {
		const { page } = chat
		const pressed = (is) => page.waitForSelector(`#voice[aria-pressed=${is}]`)
		await page.click('#voice')
		await pressed(true)
		await page.keyboard.press('Escape')
		await pressed(false)
		await until('it is said', async () => (await page.textContent('#said')) === 'The recording was dropped.')
		await page.click('#voice')
		await pressed(true)
		await page.click('#new')
		await pressed(false)
		await page.evaluate(() => {
			document.getElementById('new').click() // once more, at once
			document.getElementById('voice').click()
			document.getElementById('voice').click() // before the microphone is there
		})
		await until('both are given up', async () => (await page.getAttribute('#voice', 'aria-pressed')) === 'false')
		await chat.connected()
		const answer = await chat.ask('After it. [sim rate=0 tokens=20]')
		await whole(chat, answer)
		assert.equal(await page.locator('article').count(), 2)
		assert.equal(await page.locator('.note').count(), 0)
	}))

test('the voice button sends, and shows that voice is not there yet', () =>
	withChat(behind.url, async (chat) => {
		await chat.page.click('#voice')
		await chat.page.waitForSelector('#voice[aria-pressed=true]')
		await chat.page.click('#voice')
		const answer = chat.page.locator('article.other').first()
		await answer.and(chat.page.locator('[data-status=refused]')).waitFor()
		assert.match(await answer.locator('.trouble').textContent(), /not_supported/)
		assert.equal(await chat.page.getAttribute('#voice', 'aria-pressed'), 'false')
	}))

test('without a key of its own the page asks for one, and keeps it from every store', async () => {
	const service = await front('keyless', 'front.pages_key_file', '')
	try {
		await withChat(service.url, async (chat) => {
			const { page } = chat
			await page.waitForSelector('#key-form:not([hidden])')
			assert.deepEqual(await serious(page), [])
			for (const text of ['x'.repeat(40), 'пароль', `${'x'.repeat(40)}…`, `x\u200b${'x'.repeat(40)}`, 'x'.repeat(40000)]) {
				await page.evaluate(() => (document.getElementById('key-error').textContent = ''))
				await page.fill('#key', `sk-sluice-${text}`)
				await page.press('#key', 'Enter')
				await until('it is told', async () => (await page.textContent('#key-error')) === 'That key is not good.')
				assert.doesNotMatch(await page.textContent('#connection-text'), /No front/)
			}
			await page.fill('#key', stack.key)
			await page.press('#key', 'Enter')
			await chat.connected()
			const answer = await chat.ask('By key. [sim rate=0 tokens=20]')
			await whole(chat, answer)
			const stores = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]) + document.body.innerHTML)
			assert.ok(!stores.includes(stack.key))
			assert.equal((await fetch(`${service.url}/chat/sessions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).status, 404)
		}, { connected: false })
	} finally {
		await service.end()
	}
})

for (const scheme of ['light', 'dark'])
	for (const [name, width, height] of [
		['wide', 1000, 760],
		['narrow', 360, 740],
	])
		test(`axe finds nothing serious: ${scheme}, ${name}; nothing is wider than the page`, () =>
			withChat(behind.url, async (chat) => {
				assert.deepEqual(await serious(chat.page), [], 'the beginning')
				const answer = await chat.ask('A word. [sim only=claude status=529 words=1 rate=0 tokens=40]')
				await whole(chat, answer)
				const stopped = await chat.ask(`${'long'.repeat(60)} [sim rate=30 tokens=300]`)
				await chat.has(stopped, 30)
				assert.deepEqual(await serious(chat.page), [], 'in the middle')
				await chat.page.keyboard.press('Escape')
				await chat.over(stopped)
				assert.deepEqual(await serious(chat.page), [], 'the end')
				const [inside, around] = await chat.page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth])
				assert.ok(inside <= around, `${inside} > ${around}`)
			}, { scheme, width, height }))

await run(import.meta.url, {
	after: async () => {
		await browser.close()
		await behind.end()
		proxy.close()
	},
})
