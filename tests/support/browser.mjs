// Chromium without a window, and the example page in it.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const CHROMIUM = execFileSync('which', [process.env.CHROMIUM ?? 'chromium']).toString().trim()

export function launch() {
	return chromium.launch({
		executablePath: CHROMIUM,
		args: [
			'--no-sandbox',
			'--disable-gpu',
			'--disable-quic',
			'--no-first-run',
			'--disable-background-networking',
			'--disable-component-update',
			'--disable-sync',
			'--use-fake-ui-for-media-stream',
			'--use-fake-device-for-media-stream',
		],
	})
}

/** What axe finds that is serious or worse: [] is good. */
export async function serious(page) {
	if (!(await page.evaluate(() => Boolean(globalThis.axe)))) {
		// Scripts from elsewhere are forbidden on the page: this one comes through the debugger.
		await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'))
	}
	const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
	return violations
		.filter((v) => ['serious', 'critical'].includes(v.impact))
		.map((v) => `${v.id} (${v.impact}): ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).join('; ')}`)
}

/** The example page, opened and connected; whatever its scripts complain of is in `complaints`. */
export class Chat {
	static async open(browser, url, { width = 1000, height = 760, scheme = 'light', connected = true } = {}) {
		const chat = new Chat()
		chat.context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, permissions: ['microphone'], reducedMotion: 'reduce' })
		chat.page = await chat.context.newPage()
		chat.complaints = []
		chat.page.on('pageerror', (e) => chat.complaints.push(e.message))
		chat.page.on('console', (m) => m.type() === 'error' && !/ERR_|WebSocket connection|status of 40[14]/.test(m.text()) && chat.complaints.push(m.text()))
		await chat.page.goto(`${url}/chat`)
		if (connected) await chat.connected()
		return chat
	}

	connected() {
		return this.page.waitForSelector('#connection[data-state=open]', { timeout: 20000 })
	}

	/** Sends by keyboard; returns the answer's article. */
	async ask(text) {
		const before = await this.page.locator('article.other').count()
		await this.page.fill('#text', text)
		await this.page.press('#text', 'Enter')
		return this.page.locator('article.other').nth(before)
	}

	/** Its text has so many characters at least. */
	async has(answer, length, limit_ms = 20000) {
		const end = Date.now() + limit_ms
		for (;;) {
			const text = await this.text(answer)
			if (text.length >= length) return text
			if (Date.now() > end) throw new Error(`only ${text.length} characters in ${limit_ms} ms`)
			await new Promise((r) => setTimeout(r, 25))
		}
	}

	text(answer) {
		return answer.locator('.words').evaluate((e) => e.textContent)
	}

	/** The job's id, once it is over. */
	async over(answer, limit_ms = 30000) {
		await answer.and(this.page.locator('[aria-busy=false]')).waitFor({ timeout: limit_ms })
		return answer.getAttribute('data-job')
	}

	close() {
		return this.context.close()
	}
}
